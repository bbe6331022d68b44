//! Governance of the ledger itself: its validators and observers, the policies of approval, and the
//! protocol version.
//!
//! | action | who | refused |
//! |---|---|---|
//! | propose one or more changes | administrator of their places | name taken, too many open proposals, newcomer |
//! | approve, by the digest of the changes | another such administrator | another digest, expired, newcomer, who would get power by it |
//! | withdraw the approval; the author: the proposal | who approved | nothing approved |
//!
//! The place is the whole city; for the repair of a device it is the device's district. A proposal
//! counts as its author's approval. As soon as as many accounts as the policy asks for have
//! approved it, and could still do so ([`live_approvals`](crate::users::live_approvals)), the last
//! of these actions makes all its changes, in their order, and the proposal leaves the state. If
//! one of the changes has become impossible, that last approval is refused and the proposal stays
//! open. After the policy's time it expires.
//!
//! There is a policy for each kind of change; that of a proposal is the strictest of its changes
//! ([`Requirement`]). The policies, the waiting time of newcomers and the holders of roles are
//! those in force before its changes: a proposal can't help itself.
//!
//! Changes:
//! - *Add a validator*: at most [`VALIDATORS_MAX`](lamplighter_types::limits::VALIDATORS_MAX).
//!   Its node id, account and key are new, with a proof of possession; node ids are never used
//!   twice, because a wiped node is a new one to Raft. It gets an account
//!   of the kind node, in the organization of the proposal's author, with the role of a relay.
//!   Only an observer can be made a validator under the id, account and key that it has.
//! - *Remove a validator*: the last one stays. Its account is disabled and its key revoked for
//!   ever.
//! - *Observers* likewise, at most [`OBSERVERS_MAX`].
//! - *Policies*: they fall under every policy that they change. The administrators whose approvals
//!   count must be as many as the new policies ask for.
//! - *Protocol*: the version after the one in force, from a height to come. A node whose program
//!   does not have that version stops there ([`lamplighter_types::protocol`]).
//! - *Accounts*: users registered, roles granted and revoked, accounts disabled, enabled and
//!   recovered. As many administrators are left as the policies ask for. Who is granted a role
//!   waits before an approval by it counts; who is recovered waits again.
//! - *Devices*: counters set, a key replaced, the key of a decommissioned device released.

mod changes;
mod error;
mod execute;
pub mod keys;
mod membership;
mod proposals;
mod protocol;
mod read;
mod requirement;
mod standing;
#[cfg(test)]
mod tests;

pub use error::GovernanceError;
pub use execute::{check, execute};
pub use membership::node_account;
pub use read::*;
pub use requirement::Requirement;
pub use standing::standing;

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::Notification;

use crate::BlockContext;

/// Number of observers: validators keep a connection to each, and it reads every block.
pub const OBSERVERS_MAX: usize = 64;

/// Does the work that is due at the beginning of a block: the next protocol version comes into
/// force, and proposals expire.
///
/// # Errors
/// The state can't be read, or the version in force is above the newest one of this program: the
/// node stops, and nothing of the block is executed.
pub fn begin_block(
    overlay: &mut Overlay,
    block: &BlockContext,
) -> Result<Vec<Notification>, StateError> {
    protocol::begin_block(overlay, block)?;
    proposals::expire(overlay, block)
}
