//! The messages between nodes and their encoding, for transports that look into them and for tests
//! that send what no correct node sends. The protocol itself is behind [`crate::Consensus`].

pub use crate::codec::{CodecError, decode, encode, frame, unframe};
pub use crate::divergence::{HeldContent, LogHolding};
pub use crate::dropped::LogContent;
pub use crate::election::{ElectionProof, SignatureBytes, SignedVote, quorum};
pub use crate::log::StoredEntry;
pub use crate::message::{
    AppendAnswer, AppendBinding, AppendHeader, AppendMessage, AppendRequest, AppendResponse,
    ComparisonAnswer, ComparisonRequest, ControlRequest, ControlResponse, decode_append,
    encode_append, get_entry, put_entry,
};
pub use crate::snapshot::message::{FileInfo, Manifest, SnapshotRequest, SnapshotResponse};
pub use crate::statement::LeaderStatement;
pub use crate::type_config::{EntryPayload, ProposedBatch, RaftLogEntry};
pub use crate::types::{LogId, Marker, Membership, SnapshotMeta, StoredMembership, Vote};
