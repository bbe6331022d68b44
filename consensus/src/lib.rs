//! Raft for opaque batches of bytes, an adapter over openraft.
//!
//! The layer above implements [`StateMachine`], the network implements [`Transport`]; both are
//! small. [`Consensus`] is the handle: propose a batch, learn who leads, change the membership.
//!
//! # Durability, and why a batch costs one sync
//!
//! An entry is written to the log unsynced, and a syncer that runs beside syncs the write-ahead log
//! once for everything that was written meanwhile (group commit). openraft is told at once that
//! the entry is there, so a leader sends it to the others while its own disk still works. What
//! makes that safe is that nothing that follows from "it is durable" happens earlier than it is:
//!
//! - a follower answers an append only when what it acknowledges is synced;
//! - a leader tells the others of a commit only when the entry is synced on its own disk;
//! - an entry is applied, and with that answered, only when it is synced on this disk;
//! - a node never takes its leadership up again after a restart: entries that it sent and then lost
//!   with the power would otherwise get a twin with the same term and index.
//!
//! The vote is synced before it is given. The applied state is written by the state machine
//! unsynced to the same write-ahead log, behind the entries, so no crash takes an entry and leaves
//! its effect; a purge is written behind the effects of what it purges, those of an installed image
//! included.
//!
//! # Images
//!
//! Who is too far behind gets an image of the state instead of the log. It is handed out, and the
//! log before it purged, only when it is sealed ([`StateMachine::seal_snapshot`]), checked before
//! it replaces anything, and while a node catches up no new image is made (see `compaction`).

mod adapter;
mod codec;
mod compaction;
mod config;
mod error;
mod io;
mod lead;
mod log;
mod machine;
mod membership;
mod network;
mod node;
mod passive;
mod raft;
mod serve;
mod snapshot;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
mod transport;

pub use config::{Config, Limits, Timers};
pub use error::{
    ConsensusError, MembershipError, ProposeError, ReadError, ServeError, TransportError,
};
pub use lead::Lead;
pub use machine::{Committed, Fatal, Rejected, StateMachine};
pub use node::{Applied, Consensus, Metrics, Proposal};
pub use raft::NodeId;
pub use snapshot::Transfer;
pub use transport::{FRAME_BYTES_MAX, Lane, Transport};
