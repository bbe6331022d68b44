use lamplighter_state::Overlay;
use lamplighter_types::limits::{GRANTS_PER_ACCOUNT_MAX, HOLDERS_MAX, KEYS_PER_ACCOUNT_MAX};
use lamplighter_types::{
    Account, Action, Approval, ApprovalPolicy, GovernanceChange, Grant, Policies, Role, Scope,
    UsersAction,
};

use super::{account, account_of_key, accounts, keys, live_approvals};
use crate::governance;
use crate::tests::city::{TIME_MS, act, id, installed, proof, propose, scope, secret};

fn users(action: UsersAction) -> Action {
    Action::Users(action)
}

fn register(name: &str) -> Action {
    users(UsersAction::RegisterUser {
        account: id(name),
        organization: id("city"),
        name: name.to_owned(),
        key: secret(name).public(),
        proof: proof(name, name),
    })
}

fn disable(name: &str) -> Action {
    users(UsersAction::Disable { account: id(name) })
}

/// Lets the one person of these tests grant a role of power.
fn appoint(overlay: &mut Overlay, name: &str, role: Role) -> Result<(), &'static str> {
    let grant = GovernanceChange::Grant {
        account: id(name),
        role,
        scope: Scope::city(),
    };
    act(
        overlay,
        "ada",
        propose(&format!("grant-{name}"), vec![grant]),
    )
}

#[test]
fn the_roles_of_an_account_are_bounded() {
    let mut overlay = installed();
    act(&mut overlay, "ada", register("nora")).unwrap();
    let grant = |n: usize| {
        let scope = scope(&format!("d{n}"));
        users(UsersAction::Grant {
            account: id("nora"),
            role: Role::Operator,
            scope,
        })
    };
    for n in 0..GRANTS_PER_ACCOUNT_MAX {
        act(&mut overlay, "ada", grant(n)).unwrap();
    }
    let full = act(&mut overlay, "ada", grant(GRANTS_PER_ACCOUNT_MAX));
    assert_eq!(full, Err("users.too_many_grants"));
}

#[test]
fn the_keys_of_an_account_are_bounded() {
    let mut overlay = installed();
    let add = |key: &str| {
        users(UsersAction::AddKey {
            key: secret(key).public(),
            label: key.to_owned(),
            proof: proof(key, "ada"),
        })
    };
    for n in 1..KEYS_PER_ACCOUNT_MAX {
        act(&mut overlay, "ada", add(&format!("spare-{n}"))).unwrap();
    }
    let full = act(&mut overlay, "ada", add("one-more"));
    assert_eq!(full, Err("users.too_many_keys"));
    let spare = secret("spare-1").public();
    let holder = account_of_key(&overlay, &spare).unwrap().unwrap();
    assert_eq!(holder.account, id("ada"));
    let labels: Vec<_> = holder.keys.iter().map(|held| &held.label[..]).collect();
    assert_eq!(labels, ["", "spare-1", "spare-2", "spare-3"]);
}

#[test]
fn the_holders_of_a_counted_role_are_bounded() {
    let mut overlay = installed();
    for n in 0..HOLDERS_MAX {
        let name = format!("approver-{n}");
        act(&mut overlay, "ada", register(&name)).unwrap();
        appoint(&mut overlay, &name, Role::Approver).unwrap();
    }
    act(&mut overlay, "ada", register("late")).unwrap();
    let full = appoint(&mut overlay, "late", Role::Approver);
    assert_eq!(full, Err("users.too_many_holders"));
}

#[test]
fn the_lists_of_holders_follow_the_accounts() {
    let mut overlay = installed();
    let listed = |overlay: &_| {
        let found = crate::Reader::page(overlay, &keys::administrators(), None, 10).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(listed(&overlay), ["ada", "ben"]);
    act(&mut overlay, "ada", register("cyd")).unwrap();
    appoint(&mut overlay, "cyd", Role::Administrator).unwrap();
    act(&mut overlay, "ada", disable("ben")).unwrap();
    assert_eq!(listed(&overlay), ["ada", "cyd"]);
    let enable = GovernanceChange::Enable { account: id("ben") };
    act(&mut overlay, "ada", propose("enable", vec![enable])).unwrap();
    assert_eq!(listed(&overlay), ["ada", "ben", "cyd"]);
    let key = secret("ben").public();
    let revoke = UsersAction::RevokeKey {
        account: id("ben"),
        key,
    };
    act(&mut overlay, "ben", users(revoke)).unwrap();
    assert_eq!(listed(&overlay), ["ada", "cyd"]);
    assert_eq!(account_of_key(&overlay, &key).unwrap(), None);
    let ben = account(&overlay, &id("ben")).unwrap().unwrap();
    assert!(ben.keys.is_empty());
    let grants = accounts(&overlay, None, 1).unwrap().remove(0).grants;
    let founding = Grant::founding(Role::Administrator, Scope::city());
    assert_eq!(grants, [founding]);
}

#[test]
fn one_administrator_stops_a_newcomer() {
    let mut overlay = installed();
    act(&mut overlay, "ada", register("newt")).unwrap();
    appoint(&mut overlay, "newt", Role::Administrator).unwrap();
    let stop = |overlay: &mut Overlay| act(overlay, "ada", disable("newt"));
    let set = |overlay: &mut Overlay, newcomer_wait_ms| {
        let policies = Policies {
            newcomer_wait_ms,
            ..Policies::default()
        };
        overlay.put(&governance::keys::policies(), &policies);
        overlay.commit();
    };
    set(&mut overlay, 0);
    let quorum_falls = Err("users.too_few_left");
    assert_eq!(stop(&mut overlay), quorum_falls, "of three, two must agree");
    set(&mut overlay, 1);
    assert_eq!(stop(&mut overlay), Ok(()));
}

/// An account that got a role at a time, written as it would be stored.
fn with_grant(overlay: &mut Overlay, name: &str, scope_of: &str, since_ms: u64) {
    act(overlay, "ada", register(name)).unwrap();
    let mut account = account(overlay, &id(name)).unwrap().unwrap();
    account.grants.push(Grant {
        role: Role::Approver,
        scope: scope(scope_of),
        since_ms,
    });
    overlay.put(&keys::account(&id(name)), &account);
}

const WAIT_MS: u64 = 1_000;
const POLICY: ApprovalPolicy = ApprovalPolicy {
    approvals: 2,
    expires_ms: 60_000,
};

fn approval(name: &str, at_ms: u64) -> Approval {
    Approval {
        account: id(name),
        key: secret(name).public(),
        at_ms,
    }
}

/// A city in which newcomers wait, with `nora` (north), `nils` (city) and `newt`, a newcomer.
fn approvers() -> Overlay {
    let mut overlay = installed();
    let policies = Policies {
        newcomer_wait_ms: WAIT_MS,
        ..Policies::default()
    };
    overlay.put(&governance::keys::policies(), &policies);
    with_grant(&mut overlay, "nora", "north", TIME_MS);
    with_grant(&mut overlay, "nils", "", TIME_MS);
    with_grant(&mut overlay, "newt", "", TIME_MS + 5_000);
    overlay
}

fn count(overlay: &Overlay, approvals: &[Approval], scopes: &[&str], after_ms: u64) -> usize {
    let scopes: Vec<_> = scopes.iter().map(|name| scope(name)).collect();
    let (role, time_ms) = (Role::Approver, TIME_MS + after_ms);
    live_approvals(overlay, approvals, role, &scopes, time_ms, &POLICY).unwrap()
}

#[test]
fn an_approval_counts_for_the_scopes_of_its_account() {
    let overlay = approvers();
    let all = ["nora", "nils"].map(|name| approval(name, TIME_MS + 2_000));
    assert_eq!(count(&overlay, &all, &["north"], 3_000), 2);
    assert_eq!(count(&overlay, &all, &["north/harbour"], 3_000), 2);
    assert_eq!(count(&overlay, &all, &["south"], 3_000), 1);
    assert_eq!(count(&overlay, &all, &["north", "south"], 3_000), 1);
    assert_eq!(
        count(&overlay, &all, &[], 3_000),
        0,
        "no scope, no approval"
    );
    let twice = [all[1].clone(), all[1].clone()];
    assert_eq!(count(&overlay, &twice, &["north"], 3_000), 1, "one account");
}

#[test]
fn an_approval_counts_after_the_wait_and_until_it_expires() {
    let overlay = approvers();
    let newt = [approval("newt", TIME_MS + 5_000)];
    assert_eq!(count(&overlay, &newt, &[""], 5_000), 0);
    assert_eq!(count(&overlay, &newt, &[""], 5_000 + WAIT_MS - 1), 0);
    assert_eq!(count(&overlay, &newt, &[""], 5_000 + WAIT_MS), 1);
    assert_eq!(count(&overlay, &newt, &[""], 64_999), 1);
    assert_eq!(count(&overlay, &newt, &[""], 65_000), 0);
}

#[test]
fn an_approval_counts_while_its_key_and_its_account_do() {
    let change = |change: &dyn Fn(&mut Overlay, &mut Account)| {
        let mut overlay = approvers();
        let mut nils = account(&overlay, &id("nils")).unwrap().unwrap();
        change(&mut overlay, &mut nils);
        overlay.put(&keys::account(&id("nils")), &nils);
        count(&overlay, &[approval("nils", TIME_MS)], &[""], 3_000)
    };
    assert_eq!(change(&|_, _| ()), 1);
    assert_eq!(change(&|_, nils| nils.disabled = true), 0);
    assert_eq!(change(&|_, nils| nils.grants.clear()), 0);
    let revoked = change(&|overlay, nils| {
        let key = nils.keys.remove(0).key;
        super::accounts::retire_key(overlay, &id("nils"), &key);
    });
    assert_eq!(revoked, 0);
    let overlay = approvers();
    let forged = Approval {
        key: secret("nora").public(),
        ..approval("nils", TIME_MS)
    };
    assert_eq!(count(&overlay, &[forged], &[""], 3_000), 0);
}
