//! The ledger of one node: submits, orders, executes and certifies transactions, and notifies
//! subscribers. The only writer of the state.
//!
//! A transaction passes the stages in this order: `submit` verifies it and adds it to the mempool;
//! `order` puts it in a batch on the leader; Raft commits the batch; `apply` executes it on every
//! node and resolves the ticket; `certify` collects the validators' signatures on the block;
//! `read` serves the feed and proofs. A stage uses `chain`, `membership`, `message` and the stages
//! before it, never one after it. [`Handle`] is the way in, `start` builds the stages.

mod alarms;
mod apply;
pub mod artifacts;
pub mod audit;
mod blocking;
mod certify;
mod chain;
mod clock;
mod clock_comparison;
mod config;
pub mod evidence;
mod handle;
mod membership;
mod message;
mod order;
mod peers;
mod read;
mod start;
mod submit;
#[cfg(test)]
mod tests;

pub use alarms::{DiskFull, NodeAlarm, RaisedAlarm};
pub use apply::snapshot::Installation;
pub use apply::snapshot_check::ImageError;
pub use chain::{Commitment, Halt, HeadInfo};
pub use clock::{Clock, SystemClock};
pub use clock_comparison::ClockStanding;
pub use config::{LedgerConfig, MempoolLimits};
pub use handle::{Handle, Status};
pub use membership::{Membership, NamedNodes, RaftMembers};
pub use message::{
    Acceptance, ArtifactRequest, PeerAnswer, PeerError, PeerGossip, PeerRequest, Peers,
};
pub use peers::progress::{Phase, Progress};
pub use peers::validator_discovery::AnnouncedValidators;
pub use read::feed::{
    AHEAD_MAX, BLOCKS_PER_STEP, Cursor, CursorAhead, CursorError, FeedEvent, FeedStep,
    NotificationFilter, Subscription, long_reads_at_once,
};
pub use read::prove::{ProveError, Subject};
pub use read::wait::WaitError;
pub use start::{Ledger, OpenError, drop_diverged};
pub use submit::admission::SubmitError;
pub use submit::mempool::{Busy, Ticket, Verdict};
pub use submit::node_account::Identity;
