use std::path::PathBuf;
use std::time::Duration;

use crate::snapshot::FreeBytes;
use crate::transport::FRAME_BYTES_MAX;
use crate::{ConsensusError, NodeId};

/// The configuration of one node.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// The id of this node. A data directory belongs to one node for ever.
    pub node_id: NodeId,
    /// The directory of the snapshots. It is created if missing, and nothing else may be in it. It
    /// is on the same file system as the store, so that images can share the store's files.
    pub snapshot_dir: PathBuf,
    pub timers: Timers,
    pub limits: Limits,
    /// Nodes that are asked for a snapshot if the state in the store does not reach the beginning
    /// of the log: it was damaged and removed.
    pub sources: Vec<NodeId>,
    /// Runs all blocking work on the async thread, so that a simulation in a single-threaded
    /// runtime is deterministic. False in a real node.
    pub inline_io: bool,
    /// The duration of the next sync on a simulated disk, which itself takes no time. None in a
    /// real node.
    pub sync_time: Option<fn() -> Duration>,
    /// Measures the space for an image from another node; none if there is no limit to it.
    pub free_bytes: Option<FreeBytes>,
}

impl ConsensusConfig {
    /// The default configuration of a node.
    pub fn new(node_id: NodeId, snapshot_dir: impl Into<PathBuf>) -> Self {
        Self {
            node_id,
            snapshot_dir: snapshot_dir.into(),
            timers: Timers::default(),
            limits: Limits::default(),
            sources: Vec::new(),
            inline_io: false,
            sync_time: None,
            free_bytes: None,
        }
    }

    pub(crate) fn raft(&self) -> Result<openraft::Config, ConsensusError> {
        let Limits {
            batch_bytes_max,
            append_bytes_max,
            snapshot_chunk_bytes,
            snapshot_bytes_per_s,
            proposals_max,
            ..
        } = self.limits;
        let largest = batch_bytes_max
            .max(append_bytes_max)
            .max(snapshot_chunk_bytes);
        if largest + FRAME_OVERHEAD_BYTES > FRAME_BYTES_MAX {
            return Err(ConsensusError::Config(format!(
                "a limit of {largest} bytes does not fit a frame of {FRAME_BYTES_MAX}"
            )));
        }
        let counts = batch_bytes_max.min(proposals_max).min(snapshot_chunk_bytes);
        if counts == 0 || snapshot_bytes_per_s == 0 {
            return Err(ConsensusError::Config("a limit is zero".to_owned()));
        }
        let (election_min, election_max) = self.timers.openraft_elections();
        let config = openraft::Config {
            cluster_name: "lamplighter".to_owned(),
            heartbeat_interval: self.timers.heartbeat.as_millis() as u64,
            election_timeout_min: election_min.as_millis() as u64,
            election_timeout_max: election_max.as_millis() as u64,
            max_payload_entries: self.limits.append_entries_max,
            replication_lag_threshold: self.limits.caught_up_entries,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(
                self.limits.snapshot_every_entries,
            ),
            max_in_snapshot_log_to_keep: self.limits.keep_entries,
            purge_batch_size: (self.limits.keep_entries / 8).max(1),
            ..openraft::Config::default()
        };
        config
            .validate()
            .map_err(|error| ConsensusError::Config(error.to_string()))
    }
}

/// Bytes of a frame besides its payload: log ids, sizes, a membership.
const FRAME_OVERHEAD_BYTES: usize = 256 << 10;

/// The durations of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// The time between two heartbeats of a leader, and the timeout of one.
    pub heartbeat: Duration,
    /// The timeout of the largest append on the slowest link.
    pub append: Duration,
    /// A follower that receives nothing for a random time between these two stands for election; in
    /// the upper half of that range if it had a leader.
    pub election_min: Duration,
    pub election_max: Duration,
    /// The timeout of one piece of a snapshot.
    pub snapshot_chunk: Duration,
    /// The timeout of the installation of a snapshot on another node.
    pub snapshot_install: Duration,
}

impl Timers {
    /// The election timeouts for openraft, which are half of the configured ones. openraft lets a
    /// follower wait for its leader's lease (the longer timeout) and then for a random time between
    /// the two; with halves, the sum is no longer than configured.
    fn openraft_elections(&self) -> (Duration, Duration) {
        (self.election_min / 2, self.election_max / 2)
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            append: Duration::from_secs(10),
            election_min: Duration::from_millis(1500),
            election_max: Duration::from_millis(3000),
            snapshot_chunk: Duration::from_secs(10),
            snapshot_install: Duration::from_secs(300),
        }
    }
}

/// The limits of the protocol; equal on every node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one batch.
    pub batch_bytes_max: usize,
    /// Batches proposed on this node that have no outcome yet; more proposals wait.
    pub proposals_max: usize,
    /// Entries in one append.
    pub append_entries_max: u64,
    /// Bytes in one append, except for a single larger entry.
    pub append_bytes_max: usize,
    /// Bytes of recent entries that are kept in memory, so that they are not read from disk.
    pub cache_bytes_max: usize,
    /// Committed entries that a node may have unapplied before it accepts no more.
    pub backlog_entries_max: u64,
    /// Bytes in one piece of a snapshot.
    pub snapshot_chunk_bytes: usize,
    /// Bytes of snapshots that this node sends in a second to all other nodes together.
    pub snapshot_bytes_per_s: u64,
    /// Bytes of a snapshot that this node accepts.
    pub snapshot_bytes_max: u64,
    /// Bytes of the disk that an image from another node leaves free.
    pub snapshot_reserve_bytes: u64,
    /// Entries after which a new snapshot is made ...
    pub snapshot_every_entries: u64,
    /// ... or bytes of entries after which it is made.
    pub snapshot_every_bytes: u64,
    /// Entries that are kept in the log although a snapshot contains them, for nodes that are a
    /// little behind.
    pub keep_entries: u64,
    /// Further bytes of log that are kept for a node that is catching up.
    pub hold_bytes_max: u64,
    /// Entries that a node may be behind and still count as caught up.
    pub caught_up_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_bytes_max: 2 << 20,
            proposals_max: 64,
            append_entries_max: 64,
            append_bytes_max: 4 << 20,
            cache_bytes_max: 16 << 20,
            backlog_entries_max: 64,
            snapshot_chunk_bytes: 1 << 20,
            snapshot_bytes_per_s: 64 << 20,
            snapshot_bytes_max: 1 << 40,
            snapshot_reserve_bytes: 512 << 20,
            snapshot_every_entries: 10_000,
            snapshot_every_bytes: 256 << 20,
            keep_entries: 1_000,
            hold_bytes_max: 4 << 30,
            caught_up_entries: 100,
        }
    }
}
