use lamplighter_types::limits::{APPROVALS_MAX, GRANTS_PER_ACCOUNT_MAX};
use lamplighter_types::{Action, Grant, Role, Scope, UsersAction};

use super::{account, account_of_key, accounts, keys, recoveries};
use crate::tests::city::{act, id, installed, scope, secret};

fn users(action: UsersAction) -> Action {
    Action::Users(action)
}

fn register(name: &str) -> Action {
    users(UsersAction::RegisterUser {
        account: id(name),
        organization: id("city"),
        name: name.to_owned(),
        key: secret(name).public(),
    })
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
fn votes_for_one_key_are_bounded() {
    let mut overlay = installed();
    act(&mut overlay, "ada", register("nora")).unwrap();
    let new_key = secret("nora-2").public();
    let recover = || {
        users(UsersAction::Recover {
            account: id("nora"),
            new_key,
        })
    };
    for n in 0..APPROVALS_MAX {
        let name = format!("voter-{n}");
        act(&mut overlay, "ada", register(&name)).unwrap();
        let city = Scope::city();
        let (account, role) = (id(&name), Role::Administrator);
        let (grant, revoke) = (
            UsersAction::Grant {
                account: account.clone(),
                role,
                scope: city.clone(),
            },
            UsersAction::Revoke {
                account,
                role,
                scope: city,
            },
        );
        act(&mut overlay, "ada", users(grant)).unwrap();
        act(&mut overlay, &name, recover()).unwrap();
        act(&mut overlay, "ada", users(revoke)).unwrap();
    }
    assert_eq!(
        act(&mut overlay, "ada", recover()),
        Err("users.too_many_votes")
    );
    assert_eq!(
        recoveries(&overlay, &id("nora"), 10).unwrap()[0]
            .votes
            .len(),
        APPROVALS_MAX
    );
}

#[test]
fn the_list_of_administrators_follows_the_accounts() {
    let mut overlay = installed();
    let listed = |overlay: &_| {
        let found = crate::Reader::page(overlay, &keys::administrators(), None, 10).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(listed(&overlay), ["ada", "ben"]);
    act(
        &mut overlay,
        "ada",
        users(UsersAction::Disable { account: id("ben") }),
    )
    .unwrap();
    assert_eq!(listed(&overlay), ["ada"]);
    act(
        &mut overlay,
        "ada",
        users(UsersAction::Enable { account: id("ben") }),
    )
    .unwrap();
    let key = secret("ben").public();
    let revoke = UsersAction::RevokeKey {
        account: id("ben"),
        key,
    };
    act(&mut overlay, "ben", users(revoke)).unwrap();
    assert_eq!(listed(&overlay), ["ada"]);
    assert_eq!(account_of_key(&overlay, &key).unwrap(), None);
    assert!(
        account(&overlay, &id("ben"))
            .unwrap()
            .unwrap()
            .keys
            .is_empty()
    );
    let grants = accounts(&overlay, None, 1).unwrap().remove(0).grants;
    assert_eq!(
        grants,
        [Grant::founding(Role::Administrator, Scope::city())]
    );
}
