//! Raft for opaque batches of bytes, an adapter over openraft.
//!
//! The layer above implements [`StateMachine`], the network implements [`Transport`]; both are
//! small. [`Consensus`] is the handle: propose a batch, learn who leads, change the membership.
//!
//! # Durability, and why a batch costs one sync
//!
//! An entry is written to the log unsynced. A background task syncs the write-ahead log once for
//! everything that was written meanwhile (group commit). openraft learns at once that the entry is
//! written, so a leader sends it to the others while its own disk still works. That is safe because
//! nothing that follows from durability happens before it:
//!
//! - a follower answers an append only when the acknowledged entries are synced;
//! - a leader announces a commit only when the entry is synced on its own disk;
//! - an entry is applied, and its proposal answered, only when it is synced on this disk;
//! - a node never resumes its leadership after a restart: it may have lost entries that it had
//!   sent, and would make other ones with the same term and index.
//!
//! The vote is synced before it is given. The state machine writes the applied state unsynced to
//! the same write-ahead log, behind the entries, so no crash removes an entry and leaves its
//! effect. A purge of the log is written after the effects of the entries that it removes, also
//! after those of an installed snapshot.
//!
//! # Nodes that lie
//!
//! A leader proves its election (`election`), by votes that the voters of the [`Electorate`]
//! signed; a quorum is that of certificates, not openraft's majority. Every field of a request is
//! checked before openraft sees it (`leader_check`, `append_check`), and every field of an answer
//! (`answer_check`). See ADR 15.
//!
//! # Snapshots
//!
//! A node that is too far behind gets an image of the state instead of the log. The image is sent,
//! and the log before it purged, only when it is sealed ([`StateMachine::seal_snapshot`]). The
//! receiver checks it before it replaces anything. While a node catches up, no new image is made
//! (see `compaction`).

mod abstention;
mod answer_check;
mod append_check;
mod binding;
mod blocking_io;
mod codec;
mod compaction;
mod comparison;
mod config;
mod control_client;
mod divergence;
mod dropped;
mod election;
mod electorate;
mod error;
mod evidence;
mod last_contact;
mod leader_check;
mod leadership;
mod log;
mod membership;
mod message;
mod metrics;
mod node;
mod open;
mod openraft_network;
mod openraft_state_machine;
mod peer_server;
mod recovery;
mod snapshot;
mod snapshot_source;
mod state_machine;
mod statement;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
mod transport;
mod type_config;
mod types;
pub mod wire;

pub use config::{ConsensusConfig, Limits, Timers};
pub use election::SignatureBytes;
pub use electorate::Electorate;
pub use error::{
    ConsensusError, MembershipError, ProposeError, ReadError, ServeError, TransportError,
};
pub use evidence::{
    EVIDENCE_BYTES_MAX, EVIDENCE_MAX, EvidenceArchive, EvidenceError, LeaderEvidence,
};
pub use leadership::Leadership;
pub use log::{ChainLink, LogDigest};
pub use metrics::Metrics;
pub use node::{Applied, Consensus, Proposal};
pub use recovery::{has_diverged, reset};
pub use snapshot::{FreeBytes, SnapshotTransfer};
pub use state_machine::{Committed, Fatal, Rejected, StateMachine};
pub use statement::LeaderStatement;
pub use transport::{FRAME_BYTES_MAX, RaftLane, Transport};
pub use types::NodeId;
