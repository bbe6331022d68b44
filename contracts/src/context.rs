//! The context of an action: its block and its sender.

use lamplighter_types::{Account, Approval, Hash, PublicKey, Role, Scope};

use crate::error::ContractError;

/// The place of a block in the chain and in time, equal on all nodes: it has no clock and no
/// randomness.
#[derive(Clone, Copy, Debug)]
pub struct BlockContext {
    pub chain_id: Hash,
    pub height: u64,
    /// Unix time in ms of the block.
    pub time_ms: u64,
}

/// The context of an action: all that it may depend on besides the state.
#[derive(Clone, Debug)]
pub struct Context {
    pub block: BlockContext,
    /// The transaction's name.
    pub transaction: Hash,
    /// The key that signed, one of the sender's.
    pub key: PublicKey,
    /// The sender as it was when the transaction began.
    pub sender: Account,
}

/// The sender lacks a right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{account} is not {role:?} of {}", scope_name(.scope))]
pub struct Forbidden {
    pub account: String,
    pub role: Role,
    pub scope: Scope,
}

impl ContractError for Forbidden {
    fn code(&self) -> &'static str {
        "forbidden"
    }
}

fn scope_name(scope: &Scope) -> &str {
    if scope.as_str().is_empty() {
        "the whole city"
    } else {
        scope.as_str()
    }
}

impl Context {
    /// The sender's approval, given in this block.
    pub fn approval(&self) -> Approval {
        Approval {
            account: self.sender.account.clone(),
            key: self.key,
            at_ms: self.block.time_ms,
        }
    }

    /// Requires that the sender has `role` for all of `scope`.
    pub fn require(&self, role: Role, scope: &Scope) -> Result<(), Forbidden> {
        if self.sender.has_role(role, scope) {
            return Ok(());
        }
        let account = self.sender.account.to_string();
        Err(Forbidden {
            account,
            role,
            scope: scope.clone(),
        })
    }
}
