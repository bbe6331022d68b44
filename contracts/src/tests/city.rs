//! A ledger with a genesis file, for the unit tests of this crate.

use std::sync::{Arc, LazyLock};

use lamplighter_state::{Overlay, View};
use lamplighter_store::MemoryKv;
use lamplighter_types::{
    Action, GENESIS_VERSION, Genesis, GenesisAccount, GovernanceAction, GovernanceChange, Grant,
    Hash, Id, KeyPurpose, Policies, Role, Scope, SecretKey, Signature, Validator, ValidatorSet,
};

use crate::{BlockContext, Context, ExecutionError, execute, genesis, users};

pub const TIME_MS: u64 = 1_800_000_000_000;

static CHAIN_ID: LazyLock<Hash> = LazyLock::new(|| genesis().chain_id());

pub fn id(name: &str) -> Id {
    Id::new(name).unwrap()
}

pub fn scope(name: &str) -> Scope {
    Scope::new(name).unwrap()
}

/// The key that has a name.
pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::of(name.as_bytes()).0)
}

/// The proof of the key `key` for an account.
pub fn proof(key: &str, account: &str) -> Signature {
    secret(key).prove(KeyPurpose::Account, &CHAIN_ID, &id(account))
}

/// The proof of the key `key` for a node.
pub fn node_proof(key: &str, account: &str) -> Signature {
    secret(key).prove(KeyPurpose::Node, &CHAIN_ID, &id(account))
}

/// A proposal of one account, which is carried out at once if its approval is enough.
pub fn propose(proposal: &str, changes: Vec<GovernanceChange>) -> Action {
    let proposal = id(proposal);
    Action::Governance(GovernanceAction::Propose { proposal, changes })
}

/// `ada` and `ben` administer, `olga` operates; one validator, `node-1`.
pub fn genesis() -> Genesis {
    let account = |name: &str, role| GenesisAccount {
        account: id(name),
        name: name.to_owned(),
        key: secret(name).public(),
        grants: vec![Grant::founding(role, Scope::city())],
    };
    let validator = Validator {
        node: 1,
        account: id("node-1"),
        key: secret("node-1").public(),
        address: "localhost:7000".to_owned(),
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Harbour City".to_owned(),
        created_ms: TIME_MS,
        validators: ValidatorSet {
            validators: vec![validator],
        },
        organization: id("city"),
        accounts: vec![
            account("ada", Role::Administrator),
            account("ben", Role::Administrator),
            account("olga", Role::Operator),
        ],
        policies: Policies::of_one_person(),
    }
}

pub fn empty() -> Overlay {
    Overlay::new(View::new(Arc::new(MemoryKv::new())))
}

pub fn installed() -> Overlay {
    let mut overlay = empty();
    genesis::install(&mut overlay, &genesis()).unwrap();
    overlay
}

pub fn block(height: u64) -> BlockContext {
    BlockContext {
        chain_id: genesis().chain_id(),
        height,
        time_ms: TIME_MS + height * 1_000,
    }
}

/// Executes an action as `sender`; what a refused one wrote is dropped. Returns the refusal's code.
pub fn act(overlay: &mut Overlay, sender: &str, action: Action) -> Result<(), &'static str> {
    act_in(overlay, &block(1), sender, sender, action)
}

/// Executes an action as `sender`, signed with the key `key`, in a block.
pub fn act_in(
    overlay: &mut Overlay,
    block: &BlockContext,
    sender: &str,
    key: &str,
    action: Action,
) -> Result<(), &'static str> {
    let account = users::account(overlay, &id(sender)).unwrap().unwrap();
    let context = Context {
        block: *block,
        transaction: Hash::ZERO,
        key: secret(key).public(),
        sender: account,
    };
    match execute::run(overlay, &context, &action) {
        Ok(_) => {
            overlay.commit();
            Ok(())
        }
        Err(ExecutionError::Refused(refusal)) => {
            overlay.rollback();
            Err(refusal.code)
        }
        Err(ExecutionError::Fatal(error)) => panic!("{error}"),
    }
}
