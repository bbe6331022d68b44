use std::path::PathBuf;
use std::time::Duration;

use crate::transport::FRAME_BYTES_MAX;
use crate::{ConsensusError, NodeId};

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node. A data directory belongs to one node for ever.
    pub node_id: NodeId,
    /// Where snapshots are kept; created if missing, and nothing else may be in it. On the same
    /// file system as the store, so that images can share its files.
    pub snapshot_dir: PathBuf,
    pub timers: Timers,
    pub limits: Limits,
    /// Nodes that may have an image, should the state in the store not reach the log that is there:
    /// after it was damaged, and removed.
    pub sources: Vec<NodeId>,
    /// Does all work of the disk on the async thread, so that a simulation in a single-threaded
    /// runtime is deterministic. In a real node false.
    pub inline_io: bool,
    /// How long the next sync takes, of a simulated disk that itself takes no time. In a real node
    /// none.
    pub sync_time: Option<fn() -> Duration>,
}

impl Config {
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
        let (election_min, election_max) = self.timers.elections_of_openraft();
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

/// What goes around the payload of a frame: log ids, sizes, a membership.
const FRAME_OVERHEAD_BYTES: usize = 256 << 10;

/// How long things take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Between two heartbeats of a leader; also the time after which one counts as lost.
    pub heartbeat: Duration,
    /// For the largest append to get to another node, on the slowest link there is.
    pub append: Duration,
    /// A follower that hears nothing for a random time between these two stands for election; in
    /// the upper half of it when it had heard a leader.
    pub election_min: Duration,
    pub election_max: Duration,
    /// For one piece of a snapshot.
    pub snapshot_chunk: Duration,
    /// For the other node to install a snapshot.
    pub snapshot_install: Duration,
}

impl Timers {
    /// openraft lets a follower wait for the lease of the leader that it heard, which is openraft's
    /// longest time, and for a random time between its two on top. So it is given halves: then both
    /// together are no longer than promised.
    fn elections_of_openraft(&self) -> (Duration, Duration) {
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

/// How much things may be. Every node of a cluster has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one batch.
    pub batch_bytes_max: usize,
    /// Batches proposed on this node and not yet answered; more of them wait.
    pub proposals_max: usize,
    /// Entries in one append.
    pub append_entries_max: u64,
    /// Bytes in one append, but for a single larger entry.
    pub append_bytes_max: usize,
    /// Bytes of recent entries kept in memory, so that they are not read back from disk.
    pub cache_bytes_max: usize,
    /// Committed entries that a node may be behind in applying before it takes no more.
    pub backlog_entries_max: u64,
    /// Bytes in one piece of a snapshot.
    pub snapshot_chunk_bytes: usize,
    /// Bytes of snapshots that this node sends in a second, to all others together.
    pub snapshot_bytes_per_s: u64,
    /// Bytes of a snapshot that this node takes.
    pub snapshot_bytes_max: u64,
    /// A snapshot is made after so many entries since the last one ...
    pub snapshot_every_entries: u64,
    /// ... or so many bytes of them.
    pub snapshot_every_bytes: u64,
    /// Entries that are kept though a snapshot contains them, for nodes that are a little behind.
    pub keep_entries: u64,
    /// Bytes of log that are kept beyond that for a node that is catching up.
    pub hold_bytes_max: u64,
    /// A node that is at most so many entries behind has caught up.
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
            snapshot_every_entries: 10_000,
            snapshot_every_bytes: 256 << 20,
            keep_entries: 1_000,
            hold_bytes_max: 4 << 30,
            caught_up_entries: 100,
        }
    }
}
