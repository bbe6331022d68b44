pub mod city;
mod invariants;
mod power;
mod state_keys;
mod texts;

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::VALIDATORS_MAX;
use lamplighter_types::protocol::{NewVariant, PROTOCOL_VERSION};
use lamplighter_types::{
    Action, Encoding, GenesisError, GovernanceChange, Grant, Hash, Protocol, Role, Scope,
    SignedTransaction, Transaction, UsersAction, Validator,
};

use self::city::{TIME_MS, act, block, empty, genesis, id, installed, node_proof, propose, secret};
use crate::genesis::{InstallError, install};
use crate::{
    AdmissionError, Context, ContractError, admission, execute, governance, users, validate,
};

fn sign(sender: &str, sequence: u64, action: Action) -> SignedTransaction {
    let transaction = Transaction {
        sender: id(sender),
        sequence,
        expires_ms: TIME_MS + 3_600_000,
        action,
    };
    let chain_id = genesis().chain_id();
    SignedTransaction::sign(&transaction, Encoding::Bincode, &chain_id, &secret(sender))
}

fn disable(account: &str) -> Action {
    Action::Users(UsersAction::Disable {
        account: id(account),
    })
}

#[test]
fn genesis_makes_accounts_of_users_and_nodes() {
    let overlay = installed();
    let set = governance::validator_set(&overlay).unwrap();
    assert_eq!(set, genesis().validators);
    let node = users::account_of_key(&overlay, &set.validators[0].key)
        .unwrap()
        .unwrap();
    assert_eq!(node.account, id("node-1"));
    assert!(node.has_role(Role::Relay, &Scope::city()));
    assert_eq!(
        governance::used_node(&overlay, 1).unwrap(),
        Some(id("node-1"))
    );
    let ada = users::account(&overlay, &id("ada")).unwrap().unwrap();
    assert_eq!(ada.organization, id("city"));
    assert!(
        users::organization(&overlay, &id("city"))
            .unwrap()
            .is_some()
    );
    assert_eq!(
        users::accounts(&overlay, Some(&id("ada")), 1).unwrap()[0].account,
        id("ben")
    );
}

#[test]
fn a_genesis_file_that_breaks_a_rule_is_refused() {
    let mut without_users = genesis();
    without_users.accounts.truncate(0);
    let refused = install(&mut empty(), &without_users);
    assert!(matches!(
        refused,
        Err(InstallError::Genesis(GenesisError::NoAdministrator))
    ));

    let mut policies = genesis();
    policies.policies.approvals.recovery.approvals = 0;
    assert!(matches!(
        install(&mut empty(), &policies),
        Err(InstallError::Genesis(_))
    ));

    let mut address = genesis();
    address.validators.validators[0].address = "nowhere".to_owned();
    assert!(matches!(
        install(&mut empty(), &address),
        Err(InstallError::Genesis(_))
    ));

    let mut grants = genesis();
    grants.accounts[0].grants = vec![Grant::founding(Role::Auditor, Scope::city()); 100];
    grants.accounts[0].grants[0].role = Role::Administrator;
    assert!(matches!(
        install(&mut empty(), &grants),
        Err(InstallError::Genesis(_))
    ));
}

#[test]
fn a_transaction_that_is_not_admitted_leaves_no_trace() {
    let mut overlay = installed();
    let before = overlay.get(&users::keys::account(&id("olga"))).unwrap();
    let mut stranger = sign("ada", 1, disable("olga"));
    stranger.key = secret("stranger").public();
    let chain_id = genesis().chain_id();
    stranger.signature = secret("stranger").sign(&stranger.signing_bytes(&chain_id));
    let verified = stranger.verify(&chain_id).unwrap();
    let executed = execute::execute(&mut overlay, &block(1), &verified).unwrap();
    assert!(matches!(executed, Err(AdmissionError::UnknownKey { .. })));
    let window = users::replay_window(&overlay, &secret("stranger").public()).unwrap();
    assert_eq!(window.highest(), 0);
    assert_eq!(
        overlay.get(&users::keys::account(&id("olga"))).unwrap(),
        before
    );
}

#[test]
fn a_failed_action_uses_its_number_and_changes_nothing_else() {
    let mut overlay = installed();
    let chain_id = genesis().chain_id();
    let verified = sign("olga", 7, disable("ben")).verify(&chain_id).unwrap();
    assert!(
        admission::admit(&overlay, &verified, block(1).time_ms)
            .unwrap()
            .is_ok()
    );
    let installed_writes = installed().into_changes().writes;
    let receipt = execute::execute(&mut overlay, &block(1), &verified)
        .unwrap()
        .unwrap();
    assert!(!receipt.succeeded());
    assert!(receipt.notifications.is_empty());
    let again = execute::execute(&mut overlay, &block(2), &verified).unwrap();
    assert!(again.is_err());
    let mut writes = overlay.into_changes().writes;
    writes.retain(|key, value| installed_writes.get(key) != Some(value));
    let window = users::keys::replay_window(&secret("olga").public());
    assert_eq!(writes.keys().collect::<Vec<_>>(), [window.as_bytes()]);
}

#[test]
fn the_validator_set_has_the_key_that_proofs_follow() {
    assert_eq!(
        governance::keys::validator_set().as_bytes(),
        lamplighter_types::proof::VALIDATOR_SET_KEY
    );
}

#[test]
fn the_number_of_validators_is_bounded() {
    let mut overlay = installed();
    let add = |node: u64| {
        let account = id(&format!("node-{node}"));
        let key = secret(account.as_str()).public();
        let validator = Validator {
            node,
            account,
            key,
            address: "localhost:7000".to_owned(),
        };
        let name = validator.account.to_string();
        let proof = node_proof(&name, &name);
        let change = GovernanceChange::AddValidator { validator, proof };
        propose(&format!("p-{node}"), vec![change])
    };
    for node in (2..=VALIDATORS_MAX as u64).rev() {
        act(&mut overlay, "ada", add(node)).unwrap();
    }
    let full = act(&mut overlay, "ada", add(100));
    assert_eq!(full, Err("governance.too_many_validators"));
    let set = governance::validator_set(&overlay).unwrap().validators;
    assert!(set.windows(2).all(|pair| pair[0].node < pair[1].node));
}

#[test]
fn a_newer_protocol_version_stops_the_node_before_its_first_block() {
    let mut overlay = installed();
    let newest = Protocol {
        version: PROTOCOL_VERSION,
        next: None,
    };
    overlay.put(&governance::keys::protocol(), &newest);
    let change = |version| {
        vec![GovernanceChange::SetProtocol {
            version,
            from_height: 5,
        }]
    };
    let skipped = act(
        &mut overlay,
        "ada",
        propose("w", change(PROTOCOL_VERSION + 2)),
    );
    assert_eq!(skipped, Err("governance.protocol_step"));
    overlay.put(&governance::keys::protocol(), &newest);
    let next = propose("v", change(PROTOCOL_VERSION + 1));
    act(&mut overlay, "ada", next).unwrap();
    execute::begin_block(&mut overlay, &block(4)).unwrap();
    let stopped = execute::begin_block(&mut overlay, &block(5)).unwrap_err();
    assert_eq!(
        stopped.to_string(),
        format!(
            "from height 5 on this chain runs protocol version {}; this program knows versions up \
             to {PROTOCOL_VERSION}: install a newer release of Lamplighter",
            PROTOCOL_VERSION + 1
        )
    );
    overlay.commit();
    let protocol = governance::protocol(&overlay).unwrap();
    assert_eq!(protocol.version, PROTOCOL_VERSION, "nothing was executed");
    assert_eq!(protocol.next, Some((PROTOCOL_VERSION + 1, 5)));
}

/// Proposes, in block 1, a version where `now` is in force; returns the code of the refusal.
fn set_protocol(
    overlay: &mut Overlay,
    now: u32,
    version: u32,
    from_height: u64,
) -> Option<&'static str> {
    let in_force = Protocol {
        version: now,
        next: None,
    };
    overlay.put(&governance::keys::protocol(), &in_force);
    let change = GovernanceChange::SetProtocol {
        version,
        from_height,
    };
    act(overlay, "ada", propose("v", vec![change])).err()
}

#[test]
fn a_protocol_version_follows_the_one_in_force_from_a_block_to_come() {
    let now = PROTOCOL_VERSION;
    let in_block_1 = [
        (now, now, 5, "governance.old_protocol"),
        (now, now - 1, 5, "governance.old_protocol"),
        (now, 0, 5, "governance.old_protocol"),
        (1, 3, 5, "governance.protocol_step"),
        (1, u32::MAX, 5, "governance.protocol_step"),
        (1, 2, 1, "governance.past_height"),
        (1, 2, 0, "governance.past_height"),
    ];
    for (now, version, from_height, code) in in_block_1 {
        let mut overlay = installed();
        let refused = set_protocol(&mut overlay, now, version, from_height);
        assert_eq!(
            refused,
            Some(code),
            "{version} after {now} from {from_height}"
        );
    }
    let mut overlay = installed();
    assert_eq!(set_protocol(&mut overlay, 1, 2, 3), None);
    let at = |overlay: &mut Overlay, height| {
        execute::begin_block(overlay, &block(height)).unwrap();
        governance::protocol(overlay).unwrap()
    };
    let waiting = Protocol {
        version: 1,
        next: Some((2, 3)),
    };
    assert_eq!(at(&mut overlay, 2), waiting);
    let begun = Protocol {
        version: 2,
        next: None,
    };
    assert_eq!(at(&mut overlay, 3), begun);
    assert_eq!(at(&mut overlay, 4), begun);
}

#[test]
fn a_node_that_begins_under_a_newer_version_stops_too() {
    let mut overlay = installed();
    let newer = Protocol {
        version: PROTOCOL_VERSION + 1,
        next: None,
    };
    overlay.put(&governance::keys::protocol(), &newer);
    overlay.commit();
    let stopped = execute::begin_block(&mut overlay, &block(9)).unwrap_err();
    assert!(matches!(
        stopped,
        StateError::NewerProtocol { height: 9, .. }
    ));
}

#[test]
fn a_new_variant_is_not_admitted_before_its_version_is_in_force() {
    let mut overlay = installed();
    let chain_id = genesis().chain_id();
    let verified = sign("ada", 1, disable("olga")).verify(&chain_id).unwrap();
    let new = [NewVariant {
        of: "UsersAction",
        variant: "disable",
        since: 2,
    }];
    let check = |overlay: &_| admission::check_version(overlay, verified.get(), &new).unwrap();
    let refused = check(&overlay).unwrap_err();
    assert_eq!(
        refused,
        AdmissionError::ProtocolVersion {
            needed: 2,
            in_force: 1
        }
    );
    assert_eq!(refused.code(), "admission.protocol_version");
    let second = Protocol {
        version: 2,
        next: None,
    };
    overlay.put(&governance::keys::protocol(), &second);
    assert_eq!(check(&overlay), Ok(()));
}

#[test]
fn a_role_covers_its_district_only() {
    let overlay = installed();
    let mut sender = users::account(&overlay, &id("olga")).unwrap().unwrap();
    sender.grants[0].scope = Scope::new("north").unwrap();
    let context = Context {
        block: block(1),
        transaction: Hash::ZERO,
        key: secret("olga").public(),
        sender,
    };
    assert!(
        context
            .require(Role::Operator, &Scope::new("north/harbour").unwrap())
            .is_ok()
    );
    assert!(
        context
            .require(Role::Operator, &Scope::new("northern").unwrap())
            .is_err()
    );
    assert!(context.require(Role::Operator, &Scope::city()).is_err());
}

#[test]
fn texts_and_lists_have_bounds() {
    assert!(validate::name("name", "Harbour City", 12).is_ok());
    assert!(validate::name("name", "Harbour City!", 12).is_err());
    assert!(validate::name("name", "two\nlines", 12).is_err());
    assert!(validate::text("reason", "two\nlines\t", 12).is_ok());
    assert!(validate::text("reason", "bell\u{7}", 12).is_err());
    assert!(validate::list::<u8>("list", &[], 2).is_err());
    assert!(validate::list("list", &[1, 2], 2).is_ok());
    assert!(validate::list("list", &[1, 2, 3], 2).is_err());
    assert!(validate::distinct("list", [1, 2, 1]).is_err());
}
