//! The types that openraft is instantiated with.

use bytes::Bytes;
use openraft::EmptyNode;
use serde::{Deserialize, Serialize};

use crate::snapshot::SnapshotDir;

/// A proposed batch. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedBatch(pub Bytes);

/// The state machine's response to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResponse(pub Bytes);

openraft::declare_raft_types!(
    pub TypeConfig:
        D = ProposedBatch,
        R = BatchResponse,
        NodeId = u64,
        Node = EmptyNode,
        SnapshotData = std::sync::Arc<SnapshotDir>,
);

pub type Raft = openraft::Raft<TypeConfig>;
pub type RaftLogEntry = openraft::Entry<TypeConfig>;
pub type EntryPayload = openraft::EntryPayload<TypeConfig>;
