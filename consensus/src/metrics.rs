use std::collections::{BTreeMap, BTreeSet};

use crate::snapshot::SnapshotTransfer;
use crate::types::{NodeId, RaftMetrics};

/// The state of a node in consensus at one moment. Indexes are log indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub node_id: NodeId,
    pub term: u64,
    pub leader: Option<NodeId>,
    /// `Learner`, `Follower`, `Candidate`, `Leader` or `Shutdown`.
    pub role: &'static str,
    /// The reason why the node stopped, if it did.
    pub failure: Option<String>,
    pub last_log_index: Option<u64>,
    pub applied_index: Option<u64>,
    pub snapshot_index: Option<u64>,
    pub purged_index: Option<u64>,
    pub voters: BTreeSet<NodeId>,
    pub learners: BTreeSet<NodeId>,
    /// On a leader: the index up to which each node's log is known to equal its own.
    pub matched_index: BTreeMap<NodeId, Option<u64>>,
    /// On a leader: the time since a majority last answered.
    pub quorum_ack_age_ms: Option<u64>,
    /// Syncs of the log since the start.
    pub syncs: u64,
    /// The snapshot that is being received, if there is one.
    pub incoming: Option<SnapshotTransfer>,
    /// The first index at which the log of another voter differs from this node's, while it does.
    pub differs_at: Option<u64>,
}

impl Metrics {
    pub(crate) fn new(raft: &RaftMetrics, syncs: u64, incoming: Option<SnapshotTransfer>) -> Self {
        let membership = raft.membership_config.membership();
        let matched = raft.replication.iter().flatten();
        Self {
            node_id: raft.id,
            term: raft.current_term,
            leader: raft.current_leader,
            role: role(raft.state),
            failure: raft.running_state.as_ref().err().map(ToString::to_string),
            last_log_index: raft.last_log_index,
            applied_index: raft.last_applied.map(|log_id| log_id.index),
            snapshot_index: raft.snapshot.map(|log_id| log_id.index),
            purged_index: raft.purged.map(|log_id| log_id.index),
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            matched_index: matched
                .map(|(node, log_id)| (*node, log_id.map(|log_id| log_id.index)))
                .collect(),
            quorum_ack_age_ms: raft.millis_since_quorum_ack,
            syncs,
            incoming,
            differs_at: None,
        }
    }
}

fn role(state: openraft::ServerState) -> &'static str {
    match state {
        openraft::ServerState::Learner => "Learner",
        openraft::ServerState::Follower => "Follower",
        openraft::ServerState::Candidate => "Candidate",
        openraft::ServerState::Leader => "Leader",
        openraft::ServerState::Shutdown => "Shutdown",
    }
}
