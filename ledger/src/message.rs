//! Messages between nodes beside Raft, encoded by `types::codec`.

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_types::proof::{CertifiedHeader, SetPath};
use lamplighter_types::{Attestation, Certificate, Hash, SignedTransaction};
use serde::{Deserialize, Serialize};

/// Attestations of one message: more than a node makes while one is on its way.
pub(crate) const ATTESTATIONS_MAX: usize = 512;
/// Transactions of one message.
pub(crate) const FORWARDED_MAX: usize = 2_048;
/// Bytes of the transactions of one message.
pub(crate) const FORWARDED_BYTES_MAX: usize = 1 << 20;
/// Bytes of one range of an artifact in a request.
pub const RANGE_BYTES_MAX: u64 = 1 << 20;

/// A request to another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerRequest {
    /// To the leader: transactions that came in at this node. Answer: [`Acceptance`]s.
    Submit(Vec<SignedTransaction>),
    /// The certificate on the header at this height itself.
    Certificate { height: u64 },
    /// Bytes of an artifact.
    Artifact(ArtifactRequest),
    /// The changes of the validators after the height of those that the asking node trusts.
    Validators { trusted: u64 },
    /// The time of the node's clock.
    Time,
}

/// A request for a part of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArtifactRequest {
    /// The group values.
    Groups { digest: Hash },
    /// At most [`RANGE_BYTES_MAX`] bytes.
    Range {
        digest: Hash,
        offset: u64,
        length: u64,
    },
}

/// The leader's answer on one forwarded transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acceptance {
    Accepted,
    Busy,
    /// The transaction can't be in a block; the node that forwarded it decides by its own state.
    Refused,
}

/// An answer to a [`PeerRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerAnswer {
    Submitted(Vec<Acceptance>),
    /// This node does not lead.
    NotLeader,
    /// This node does not have the record.
    Unavailable,
    Certificate(Box<Certificate>),
    Artifact(#[serde(with = "bytes_as_hex_bytes")] Bytes),
    /// Changes of the validators, and a header that the set to which they lead has certified, if
    /// they are all.
    Validators {
        path: Box<SetPath>,
        head: Option<Box<CertifiedHeader>>,
    },
    Time {
        /// Unix time in ms.
        now_ms: u64,
    },
}

/// A node's broadcast to all others. An empty one announces that a caller of that node waits for a
/// certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerGossip {
    pub attestations: Vec<Attestation>,
    /// The newest certified header of the sender, so that a node that missed attestations catches
    /// up, and a node that computed another header detects it.
    pub certified: Option<CertifiedHeader>,
}

impl PeerGossip {
    /// The announcement that a caller of this node waits for a certificate.
    pub(crate) fn demand() -> Self {
        Self {
            attestations: Vec::new(),
            certified: None,
        }
    }

    pub(crate) fn is_demand(&self) -> bool {
        self.attestations.is_empty() && self.certified.is_none()
    }
}

/// Why a request got no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    #[error("node {0} can't be reached")]
    Unreachable(u64),
    #[error("node {node}: {reason}")]
    Refused { node: u64, reason: String },
    #[error("node {0} answered something else")]
    Unexpected(u64),
}

/// The connections to the other nodes. The network below proves each node's identity.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Sends a request to one node.
    ///
    /// # Errors
    /// No answer within the time that fits the request.
    async fn request(&self, node: u64, request: PeerRequest) -> Result<PeerAnswer, PeerError>;

    /// Sends a message to every connected node. It may be lost: the attester repeats its messages.
    fn broadcast(&self, gossip: PeerGossip);

    /// The nodes that are connected.
    fn connected(&self) -> Vec<u64>;
}

mod bytes_as_hex_bytes {
    use bytes::Bytes;
    use lamplighter_types::HexBytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        HexBytes::deserialize(deserializer).map(|bytes| bytes.0.into())
    }
}
