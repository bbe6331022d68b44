//! What nodes say to each other beside Raft. Bytes from peers are decoded here and nowhere else.

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::proof::{CertifiedHeader, ProofBundle};
use lamplighter_types::{Attestation, Certificate, Hash, SignedTransaction};
use serde::{Deserialize, Serialize};

use crate::artifacts::ArtifactRequest;

/// Attestations of one message: more than a node makes while one is on its way.
pub(crate) const ATTESTATIONS_MAX: usize = 512;
/// Transactions of one message.
pub(crate) const FORWARDED_MAX: usize = 2_048;
/// Bytes of the transactions of one message.
pub(crate) const FORWARDED_BYTES_MAX: usize = 1 << 20;

/// A question to another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerRequest {
    /// To the leader: transactions that came in here. Answer: [`Acceptance`]s.
    Submit(Vec<SignedTransaction>),
    /// The certificate on the header at this height itself.
    Certificate { height: u64 },
    /// Bytes of an artifact.
    Artifact(ArtifactRequest),
    /// The validators in force, with the proof.
    Validators,
}

/// The leader's word on one transaction that was passed to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acceptance {
    Accepted,
    Busy,
    /// It can't be in a block; the node that passed it on decides by its own state.
    Refused,
}

/// An answer to a [`PeerRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerAnswer {
    Submitted(Vec<Acceptance>),
    /// This node does not lead.
    NotLeader,
    /// This node does not have it.
    Unavailable,
    Certificate(Box<Certificate>),
    Artifact(#[serde(with = "crate::message::bytes_as_hex_bytes")] Bytes),
    Validators(Box<ProofBundle>),
}

/// What a node tells all others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerNotice {
    pub attestations: Vec<Attestation>,
    /// The newest certified header of the sender, so that a node that missed attestations catches
    /// up, and one that computed another header learns of it.
    pub certified: Option<CertifiedHeader>,
}

/// A question got no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    #[error("node {0} can't be reached")]
    Unreachable(u64),
    #[error("node {node}: {reason}")]
    Refused { node: u64, reason: String },
    #[error("node {0} answered something else")]
    Unexpected(u64),
}

/// The other nodes, as the ledger sees them. Who is who has been proven by the network below.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Asks one node; errors when it gives no answer in a time that fits the request.
    async fn request(&self, node: u64, request: PeerRequest) -> Result<PeerAnswer, PeerError>;

    /// Tells every validator that is connected; what does not arrive is told again.
    fn tell_all(&self, notice: PeerNotice);

    /// The nodes that are connected.
    fn connected(&self) -> Vec<u64>;
}

impl PeerRequest {
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes)
    }
}

impl PeerAnswer {
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes)
    }
}

impl PeerNotice {
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes)
    }
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

/// The name of a batch for its follower.
pub(crate) fn batch_digest(bytes: &[u8]) -> Hash {
    Hash::of(bytes)
}
