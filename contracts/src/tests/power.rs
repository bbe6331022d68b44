//! No key of one person makes power, whatever it does and for how long.
//!
//! The thief has the key of `ada`, one of four administrators of whom two must agree, and makes
//! accounts, gateways and keys as it likes. After any actions of these accounts, at any times, the
//! city's power is where it was.

use std::collections::BTreeSet;

use lamplighter_state::Overlay;
use lamplighter_types::*;
use proptest::prelude::*;
use proptest::sample::select;

use super::city::{TIME_MS, act_in, empty, id, scope, secret};
use crate::users::accounts::holders;
use crate::{BlockContext, genesis as install, governance, users};

/// Accounts whose keys the thief has: its own, and those that it may register.
const THIEF: [&str; 5] = ["ada", "p-1", "p-2", "p-3", "gw-1"];
const HONEST: [&str; 9] = [
    "ben", "cyd", "dan", "amir", "anna", "arno", "sam", "acme", "olga",
];
const DISTRICTS: [&str; 3] = ["", "north", "north/harbour"];

fn genesis() -> Genesis {
    let account = |name: &str, role| GenesisAccount {
        account: id(name),
        name: name.to_owned(),
        key: secret(name).public(),
        grants: vec![Grant::founding(role, Scope::city())],
    };
    let of = |role: Role, names: &[&str]| -> Vec<_> {
        names.iter().map(|name| account(name, role)).collect()
    };
    let accounts = [
        of(Role::Administrator, &["ada", "ben", "cyd", "dan"]),
        of(Role::Approver, &["amir", "anna", "arno"]),
        of(Role::Security, &["sam"]),
        of(Role::Vendor, &["acme"]),
        of(Role::Operator, &["olga"]),
    ];
    Genesis {
        accounts: accounts.concat(),
        policies: Policies::default(),
        ..super::city::genesis()
    }
}

fn anybody() -> impl Strategy<Value = &'static str> {
    let all: Vec<_> = THIEF.into_iter().chain(HONEST).chain(["node-1"]).collect();
    select(all)
}

fn role() -> impl Strategy<Value = Role> {
    use Role::*;
    let all = [
        Administrator,
        Operator,
        Approver,
        Vendor,
        Security,
        Auditor,
        Relay,
    ];
    select(all.to_vec())
}

/// A key with its name; the thief has these, and those of its accounts.
fn key() -> impl Strategy<Value = SecretKey> {
    (0..6_u8).prop_map(|n| secret(&format!("key-{n}")))
}

fn proof(secret: &SecretKey, purpose: KeyPurpose, account: &str) -> Signature {
    secret.prove(purpose, &genesis().chain_id(), &id(account))
}

fn users_action() -> impl Strategy<Value = UsersAction> {
    let place = || select(DISTRICTS.as_slice()).prop_map(scope);
    let account_proof = |secret: &SecretKey, name: &str| proof(secret, KeyPurpose::Account, name);
    prop_oneof![
        select(THIEF.as_slice()).prop_map(move |name| UsersAction::RegisterUser {
            account: id(name),
            organization: id("city"),
            name: name.to_owned(),
            key: secret(name).public(),
            proof: account_proof(&secret(name), name),
        }),
        place().prop_map(move |district| UsersAction::RegisterGateway {
            account: id("gw-1"),
            organization: id("city"),
            district,
            key: secret("gw-1").public(),
            proof: account_proof(&secret("gw-1"), "gw-1"),
        }),
        (anybody(), role(), place()).prop_map(|(name, role, scope)| UsersAction::Grant {
            account: id(name),
            role,
            scope,
        }),
        (anybody(), role(), place()).prop_map(|(name, role, scope)| UsersAction::Revoke {
            account: id(name),
            role,
            scope,
        }),
        (anybody(), key()).prop_map(move |(name, secret)| UsersAction::AddKey {
            proof: account_proof(&secret, name),
            key: secret.public(),
            label: "mine".to_owned(),
        }),
        anybody().prop_map(|name| UsersAction::RevokeKey {
            account: id(name),
            key: secret(name).public(),
        }),
        anybody().prop_map(|name| UsersAction::Disable { account: id(name) }),
    ]
}

fn change() -> impl Strategy<Value = GovernanceChange> {
    let place = || select(DISTRICTS.as_slice()).prop_map(scope);
    prop_oneof![
        (anybody(), role(), place()).prop_map(|(name, role, scope)| GovernanceChange::Grant {
            account: id(name),
            role,
            scope,
        }),
        anybody().prop_map(|name| GovernanceChange::Enable { account: id(name) }),
        anybody().prop_map(|name| GovernanceChange::Disable { account: id(name) }),
        (anybody(), key()).prop_map(|(name, secret)| GovernanceChange::Recover {
            account: id(name),
            new_key: secret.public(),
            proof: proof(&secret, KeyPurpose::Account, name),
        }),
        Just(GovernanceChange::SetPolicies {
            policies: Policies::of_one_person(),
        }),
        key().prop_map(|secret| GovernanceChange::AddValidator {
            validator: Validator {
                node: 2,
                account: id("node-2"),
                key: secret.public(),
                address: "localhost:7000".to_owned(),
            },
            proof: proof(&secret, KeyPurpose::Node, "node-2"),
        }),
        Just(GovernanceChange::RemoveValidator { node: 1 }),
        Just(GovernanceChange::SetProtocol {
            version: 2,
            from_height: 1_000_000,
        }),
    ]
}

/// An action of the thief. An approval names the digest of whatever the proposal has.
#[derive(Clone, Debug)]
enum Move {
    Users(UsersAction),
    Propose(u8, Vec<GovernanceChange>),
    Approve(u8),
    Withdraw(u8),
}

fn any_move() -> impl Strategy<Value = Move> {
    let changes = prop::collection::vec(change(), 1..3);
    prop_oneof![
        3 => users_action().prop_map(Move::Users),
        2 => (0..3_u8, changes).prop_map(|(name, changes)| Move::Propose(name, changes)),
        2 => (0..3_u8).prop_map(Move::Approve),
        1 => (0..3_u8).prop_map(Move::Withdraw),
    ]
}

fn action(overlay: &Overlay, of: Move) -> Action {
    let named = |name: u8| id(&format!("proposal-{name}"));
    Action::Governance(match of {
        Move::Users(action) => return Action::Users(action),
        Move::Propose(name, changes) => GovernanceAction::Propose {
            proposal: named(name),
            changes,
        },
        Move::Approve(name) => {
            let open = governance::proposal(overlay, &named(name)).unwrap();
            GovernanceAction::Approve {
                proposal: named(name),
                changes: open.map_or(Hash::ZERO, |open| open.digest),
            }
        }
        Move::Withdraw(name) => GovernanceAction::Withdraw {
            proposal: named(name),
        },
    })
}

/// All that gives power: who has it, by which keys, and the rules.
#[derive(Debug, PartialEq, Eq)]
struct Power {
    grants: BTreeSet<(Id, String, Scope)>,
    keys: BTreeSet<(Id, PublicKey)>,
    validators: ValidatorSet,
    policies: Policies,
    protocol: Protocol,
}

fn power(overlay: &Overlay) -> Power {
    let (mut grants, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for account in users::accounts(overlay, None, 100).unwrap() {
        let name = &account.account;
        let of_power = account.grants.iter().filter(|grant| grant.role.is_power());
        let of_power = of_power.map(|g| (name.clone(), format!("{:?}", g.role), g.scope.clone()));
        grants.extend(of_power);
        if HONEST.contains(&name.as_str()) {
            keys.extend(account.keys.iter().map(|held| (name.clone(), held.key)));
        }
    }
    Power {
        grants,
        keys,
        validators: governance::validator_set(overlay).unwrap(),
        policies: governance::policies(overlay).unwrap(),
        protocol: governance::protocol(overlay).unwrap(),
    }
}

fn assert_nothing_was_gained(before: &Power, overlay: &Overlay, time_ms: u64) {
    let after = power(overlay);
    assert_eq!(after.grants, before.grants);
    assert!(after.keys.is_subset(&before.keys), "a key of an honest one");
    assert_eq!(after.validators, before.validators);
    assert_eq!(after.policies, before.policies);
    assert_eq!(after.protocol, before.protocol);
    // Two honest administrators are left, who undo what the thief did, and the approvers.
    let honest = |role| {
        let held = holders(overlay, role, time_ms).unwrap();
        held.iter()
            .filter(|name| HONEST.contains(&name.as_str()))
            .count()
    };
    assert!(honest(Role::Administrator) >= 2, "{after:?}");
    assert!(honest(Role::Approver) >= 2, "{after:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_sequence_of_actions_by_one_key_makes_power(
        moves in prop::collection::vec((select(THIEF.as_slice()), 0..200_u64, any_move()), 1..60)
    ) {
        let mut overlay = empty();
        install::install(&mut overlay, &genesis()).unwrap();
        let before = power(&overlay);
        let chain_id = genesis().chain_id();
        let (mut height, mut time_ms) = (0, TIME_MS);
        for (sender, hours, of) in moves {
            height += 1;
            time_ms += 1 + hours * 3_600_000;
            let block = BlockContext { chain_id, height, time_ms };
            governance::begin_block(&mut overlay, &block).unwrap();
            let account = users::account(&overlay, &id(sender)).unwrap();
            // What admission would let into a block; `act_in` does not ask it.
            let key = secret(sender).public();
            if account.is_some_and(|a| !a.disabled && a.has_key(&key)) {
                let action = action(&overlay, of);
                let _ = act_in(&mut overlay, &block, sender, sender, action);
            }
            assert_nothing_was_gained(&before, &overlay, time_ms);
        }
    }
}
