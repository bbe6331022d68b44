//! The types that openraft is instantiated with.

use bytes::Bytes;
use openraft::EmptyNode;
use serde::{Deserialize, Serialize};

use crate::snapshot::SnapshotDir;

/// Identifies a node in the cluster. Never used again, not even after the node is gone.
pub type NodeId = u64;

/// A proposed batch. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch(pub Bytes);

/// What the state machine answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response(pub Bytes);

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Batch,
        R = Response,
        NodeId = u64,
        Node = EmptyNode,
        SnapshotData = std::sync::Arc<SnapshotDir>,
);

pub type Raft = openraft::Raft<TypeConfig>;
pub type Entry = openraft::Entry<TypeConfig>;
pub type Payload = openraft::EntryPayload<TypeConfig>;
pub type LogId = openraft::LogId<NodeId>;
pub type Vote = openraft::Vote<NodeId>;
pub type Membership = openraft::Membership<NodeId, EmptyNode>;
pub type StoredMembership = openraft::StoredMembership<NodeId, EmptyNode>;
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, EmptyNode>;
pub type StorageError = openraft::StorageError<NodeId>;
