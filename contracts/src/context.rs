//! The context of an action: its block and its sender.

use lamplighter_types::{Account, Approval, Hash, Id, PublicKey, RefusalFields, Role, Scope};

use crate::refusal::{self, ContractError, FieldText, Template};

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

/// The refusal of a sender that lacks a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    pub account: Id,
    pub role: Role,
    /// The scope for which the role is needed.
    pub scope: Scope,
}

impl ContractError for Forbidden {
    fn templates() -> &'static [Template] {
        &[("forbidden", "{account} is not {role} of {scope}")]
    }

    fn code(&self) -> &'static str {
        "forbidden"
    }

    fn fields(&self) -> RefusalFields {
        let Self {
            account,
            role,
            scope,
        } = self;
        [
            ("account".to_owned(), account.field_text()),
            ("role".to_owned(), role.field_text()),
            ("scope".to_owned(), scope.field_text()),
        ]
        .into()
    }
}

impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&refusal::text_of(self))
    }
}

impl std::error::Error for Forbidden {}

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
        let account = self.sender.account.clone();
        Err(Forbidden {
            account,
            role,
            scope: scope.clone(),
        })
    }
}
