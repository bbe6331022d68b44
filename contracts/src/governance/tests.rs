use super::changes::check_address;
use super::{OBSERVERS_MAX, keys, observers, policies, proposal, standing, validator_set};
use crate::tests::city::{TIME_MS, act, empty, id, installed, propose, secret};
use crate::users;
use lamplighter_state::Overlay;
use lamplighter_types::wire::{ApprovalCounts, ProposalStanding};
use lamplighter_types::{
    Account, Action, GovernanceAction, GovernanceChange, Grant, KeyRecord, Observer, Role, Scope,
};

#[test]
fn addresses_are_host_and_port() {
    for good in [
        "localhost:7000",
        "10.0.0.1:1",
        "[::1]:65535",
        "node-1.example:7000",
    ] {
        assert_eq!(check_address(good), Ok(()), "{good}");
    }
    let long = format!("{}:7000", "a".repeat(300));
    for bad in [
        "",
        "localhost",
        ":7000",
        "localhost:0",
        "localhost:65536",
        "a b:7",
        &long,
    ] {
        assert!(check_address(bad).is_err(), "{bad}");
    }
}

#[test]
fn observers_are_read_in_the_order_of_their_ids() {
    let mut overlay = installed();
    for node in [256, 2, 65_536, 3] {
        let account = id(&format!("o-{node}"));
        let key = secret(account.as_str()).public();
        let observer = Observer {
            node,
            account,
            key,
            address: "localhost:1".to_owned(),
        };
        overlay.put(&keys::observer(node), &observer);
    }
    let nodes: Vec<_> = observers(&overlay)
        .unwrap()
        .iter()
        .map(|o| o.node)
        .collect();
    assert_eq!(nodes, [2, 3, 256, 65_536]);
    assert!(nodes.len() < OBSERVERS_MAX);
}

#[test]
fn without_a_genesis_there_is_no_validator_set() {
    assert!(validator_set(&empty()).is_err());
}

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Two of ada, ben and cyd must approve; dan became an administrator in this minute.
fn governed() -> Overlay {
    let mut overlay = installed();
    let mut rules = policies(&overlay).unwrap();
    rules.approvals.power.approvals = 2;
    rules.newcomer_wait_ms = DAY_MS;
    overlay.put(&keys::policies(), &rules);
    for (name, since_ms) in [("cyd", 0), ("dan", TIME_MS)] {
        let ada = users::account(&overlay, &id("ada")).unwrap().unwrap();
        let grant = Grant {
            since_ms,
            ..Grant::founding(Role::Administrator, Scope::city())
        };
        let key = secret(name).public();
        let mut account = Account {
            account: id(name),
            grants: vec![grant],
            ..ada
        };
        account.keys[0].key = key;
        overlay.put(&users::keys::account(&id(name)), &account);
        let record = KeyRecord {
            account: id(name),
            revoked: false,
        };
        overlay.put(&users::keys::key(&key), &record);
        overlay.put(&users::keys::administrator(&id(name)), &id(name));
    }
    overlay
}

fn inspect(overlay: &Overlay, time_ms: u64) -> ProposalStanding {
    let found = proposal(overlay, &id("p")).unwrap().unwrap();
    standing(overlay, found, time_ms).unwrap()
}

/// `ada` proposes that olga becomes an approver.
fn proposed(overlay: &mut Overlay) {
    let grant = GovernanceChange::Grant {
        account: id("olga"),
        role: Role::Approver,
        scope: Scope::city(),
    };
    act(overlay, "ada", propose("p", vec![grant])).unwrap();
}

#[test]
fn a_proposal_names_what_it_lacks_and_who_may_approve_it() {
    let mut overlay = governed();
    proposed(&mut overlay);
    let found = inspect(&overlay, TIME_MS);
    assert_eq!((found.counted, found.needed), (1, 2));
    assert_eq!(found.approvals[0].counts, ApprovalCounts::Counts);
    let candidates = found.candidates.iter();
    let candidates: Vec<_> = candidates
        .map(|c| (c.account.as_str(), c.from_ms))
        .collect();
    assert_eq!(
        candidates,
        [("ben", 0), ("cyd", 0), ("dan", TIME_MS + DAY_MS)]
    );
    assert_eq!(found.scopes, [Scope::city()]);
}

#[test]
fn the_reason_of_an_approval_that_does_not_count() {
    let mut overlay = governed();
    proposed(&mut overlay);
    let expires_ms = inspect(&overlay, TIME_MS).approvals[0].expires_ms;
    let counts = |overlay: &Overlay, time_ms| {
        let found = inspect(overlay, time_ms);
        let counts = found.approvals[0].counts;
        assert_eq!(found.counted == 1, counts == ApprovalCounts::Counts);
        counts
    };
    assert_eq!(counts(&overlay, expires_ms - 1), ApprovalCounts::Counts);
    assert_eq!(counts(&overlay, expires_ms), ApprovalCounts::Expired);

    let mut ada = users::account(&overlay, &id("ada")).unwrap().unwrap();
    ada.grants[0].since_ms = TIME_MS;
    overlay.put(&users::keys::account(&id("ada")), &ada);
    let from = ApprovalCounts::From {
        time_ms: TIME_MS + DAY_MS,
    };
    assert_eq!(counts(&overlay, TIME_MS), from);
    ada.grants.clear();
    overlay.put(&users::keys::account(&id("ada")), &ada);
    assert_eq!(counts(&overlay, TIME_MS), ApprovalCounts::RoleLost);

    let mut overlay = governed();
    proposed(&mut overlay);
    let revoked = KeyRecord {
        account: id("ada"),
        revoked: true,
    };
    overlay.put(&users::keys::key(&secret("ada").public()), &revoked);
    assert_eq!(counts(&overlay, TIME_MS), ApprovalCounts::KeyRevoked);
    // Two others can finish it.
    let found = inspect(&overlay, TIME_MS);
    let approve = |overlay: &mut Overlay, by| {
        let changes = found.proposal.digest;
        let proposal = id("p");
        let action = GovernanceAction::Approve { proposal, changes };
        act(overlay, by, Action::Governance(action)).unwrap();
    };
    approve(&mut overlay, "ben");
    assert_eq!(inspect(&overlay, TIME_MS).counted, 1);
    approve(&mut overlay, "cyd");
    assert!(proposal(&overlay, &id("p")).unwrap().is_none());
}

/// An account that would get power by a proposal is no candidate for it.
#[test]
fn an_interested_account_is_no_candidate() {
    let mut overlay = governed();
    let grant = GovernanceChange::Grant {
        account: id("ben"),
        role: Role::Approver,
        scope: Scope::city(),
    };
    act(&mut overlay, "ada", propose("p", vec![grant])).unwrap();
    let found = inspect(&overlay, TIME_MS);
    assert!(found.candidates.iter().all(|c| c.account != id("ben")));
}
