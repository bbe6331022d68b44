//! Governance of the ledger itself: its validators and observers, the policies of approval, and the
//! protocol version.
//!
//! | action | who | refused |
//! |---|---|---|
//! | propose | administrator of the whole city | name taken, the change can't be made |
//! | approve, by the digest of the change | another administrator of the whole city | another digest, carried out already, approved already |
//!
//! A proposal counts as its author's approval. As soon as `governance_approvals` accounts have
//! approved it, and could still do so, it is carried out by the last of these actions. If the
//! change has become impossible meanwhile, that last approval fails and the proposal stays open.
//!
//! Changes:
//! - *Add a validator*: at most [`VALIDATORS_MAX`](lamplighter_types::limits::VALIDATORS_MAX).
//!   Its node id, account and key are new; node ids are never used twice, because a wiped node is
//!   a new one to Raft. It gets an account of the kind node, in the organization of the
//!   proposal's author, with the role of a relay. Only an observer can be made a validator under
//!   the id, account and key that it has.
//! - *Remove a validator*: the last one stays. Its account is disabled and its key revoked for
//!   ever.
//! - *Observers* likewise, at most [`OBSERVERS_MAX`].
//! - *Policies*: each number from 1 to
//!   [`APPROVALS_MAX`](lamplighter_types::limits::APPROVALS_MAX).
//! - *Protocol*: a version above the one in force, from a height to come. A node whose program does
//!   not have that version stops there ([`lamplighter_types::protocol`]).

mod error;
mod execute;
pub mod keys;
mod membership;
mod protocol;
mod read;
#[cfg(test)]
mod tests;

pub use error::GovernanceError;
pub use execute::{check, execute};
pub use membership::node_account;
pub use protocol::begin_block;
pub use read::*;

/// Number of observers: validators keep a connection to each, and it reads every block.
pub const OBSERVERS_MAX: usize = 64;
