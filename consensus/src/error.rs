use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use lamplighter_store::StoreError;

use crate::NodeId;

/// The reason why a node does not start, or why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    #[error("the configuration is not usable: {0}")]
    Config(String),
    #[error("the data directory belongs to node {found}, not to node {expected}")]
    WrongNode { expected: NodeId, found: NodeId },
    #[error("{operation}")]
    Store {
        operation: &'static str,
        #[source]
        source: StoreError,
    },
    #[error("the snapshots cannot be used")]
    Snapshots(#[source] Box<dyn Error + Send + Sync>),
    #[error("stored data of consensus is damaged: {0}")]
    Corrupt(String),
    #[error("raft stopped")]
    Raft(#[source] Box<dyn Error + Send + Sync>),
    #[error("the members are not usable: {0}")]
    Members(String),
    #[error("consensus was shut down")]
    Stopped,
    /// This node's log is not the others': it drops log and state when it starts again.
    #[error("this node's log is not the others': {0}")]
    Diverged(String),
    /// Log and state were dropped before for a difference at the same place.
    #[error("this node's log is not the others' once more, at the same place: {0}")]
    DivergedAgain(String),
}

/// The reason why a batch has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead, or no longer. A batch that was on its way *may still be
    /// committed*; the same batch proposed again must do no harm.
    #[error("this node does not lead")]
    NotLeader { leader: Option<NodeId> },
    #[error("a batch of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// The node stopped. The batch may be committed or not.
    #[error("consensus stopped")]
    Stopped,
}

/// The reason why the read index is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("no leader confirmed itself, or this node did not catch up, within {0:?}")]
    Deadline(Duration),
    #[error("consensus stopped")]
    Stopped,
}

/// The reason why the membership did not change (or, after a deadline, may not have changed).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error("this node does not lead")]
    NotLeader { leader: Option<NodeId> },
    #[error("of the voters {voters:?} only {live:?} are alive and up to date: no quorum")]
    NoLiveQuorum {
        voters: BTreeSet<NodeId>,
        live: BTreeSet<NodeId>,
    },
    #[error("node {0} has to be a learner first")]
    NotLearner(NodeId),
    #[error("an earlier change is still under way")]
    InProgress,
    #[error("{0} members are not possible")]
    Size(usize),
    #[error("the change did not finish within {0:?}; it may still happen")]
    Deadline(Duration),
    #[error("consensus stopped")]
    Stopped,
}

/// The reason why a request from another node got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// The other node sent a request that no correct node sends.
    #[error("refused a request from node {from}: {reason}")]
    Invalid { from: NodeId, reason: String },
    /// The other node's log and this node's have different contents under one log id: some leader
    /// sent two.
    #[error("refused entries of node {from}: its log is another than this node's at entry {index}")]
    OtherLog { from: NodeId, index: u64 },
    /// This node is too far behind to accept more.
    #[error("busy")]
    Busy,
    /// The state machine does not let this node follow the sender.
    #[error("node {from} is not followed")]
    NotFollowed { from: NodeId },
    /// This node failed.
    #[error("failed to serve: {0}")]
    Failed(String),
    #[error("consensus stopped")]
    Stopped,
}

/// The reason why a request to another node got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    #[error("node {0} did not answer in time")]
    Timeout(NodeId),
    #[error("node {node} refused: {reason}")]
    Refused { node: NodeId, reason: String },
}
