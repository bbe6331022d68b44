//! The identifiers and records of Raft: openraft's types with our node id.

use openraft::EmptyNode;
use serde::{Deserialize, Serialize};

use crate::log::LogDigest;

/// The id of a node in the cluster. It is never used again, not even after the node is removed.
pub type NodeId = u64;

pub type LogId = openraft::LogId<NodeId>;
/// Term and node of a leader. A term may have several leaders, one after the other; they are
/// ordered by both numbers.
pub type LeaderId = openraft::CommittedLeaderId<NodeId>;
pub type Vote = openraft::Vote<NodeId>;
pub type Membership = openraft::Membership<NodeId, EmptyNode>;
pub type StoredMembership = openraft::StoredMembership<NodeId, EmptyNode>;
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, EmptyNode>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<NodeId, EmptyNode>;

/// Members of a cluster, learners included.
pub(crate) const MEMBERS_MAX: usize = 64;

/// The position of a state: its last applied entry, the membership in force there, and the digest
/// of the log up to there, so that equal markers mean equal logs. The state
/// machine stores it as the bytes of [`crate::Committed::marker`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub log_id: LogId,
    pub membership: StoredMembership,
    pub digest: LogDigest,
}
