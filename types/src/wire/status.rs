use serde::{Deserialize, Deserializer, Serialize};

use crate::{Attestation, Hash, PublicKey};

/// The state of a node and of its copy of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    pub chain_id: Hash,
    /// The name of the ledger, from its genesis file.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub name: String,
    /// The version of the node's software.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub version: String,
    /// None of a node that can't read its state, and of older ones.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub protocol: Option<ProtocolStatus>,
    pub node: u64,
    pub height: u64,
    /// Hash of the newest header.
    #[serde(default = "no_hash")]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub head: Hash,
    /// Block time of the head, Unix ms.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub head_time_ms: u64,
    pub certified_height: u64,
    /// The node that leads, if one is known.
    pub leader: Option<u64>,
    /// Transactions that wait for their block at this node.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub pending: usize,
    /// Node ids of the peers that are connected.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub connected: Vec<u64>,
    /// Alarms for the operator. A reader leaves out those of a kind that it does not know.
    #[serde(default, deserialize_with = "known_alarms")]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub alarms: Vec<NodeAlarmStatus>,
    /// The reason why this node stopped applying blocks, if it did.
    pub halted: Option<String>,
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub progress: SyncProgress,
}

/// The rules by which blocks are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProtocolStatus {
    /// The version in force at the newest block.
    pub version: u32,
    pub next: Option<NextProtocol>,
    /// The newest version that the node's program knows: it stops before a newer one begins.
    pub known: u32,
}

/// The version that follows, by decision of the administrators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NextProtocol {
    pub version: u32,
    pub from_height: u64,
}

fn no_hash() -> Hash {
    Hash::ZERO
}

fn known_alarms<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<NodeAlarmStatus>, D::Error> {
    let alarms = Vec::<serde_json::Value>::deserialize(deserializer)?;
    let known = alarms.into_iter().map(serde_json::from_value);
    Ok(known.flatten().collect())
}

/// An alarm that a node raised about itself or another node. Devices have alarms of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeAlarmStatus {
    #[serde(flatten)]
    pub alarm: NodeAlarmKind,
    /// When it was raised, Unix ms by this node's clock.
    pub time_ms: u64,
    /// For people.
    pub message: String,
}

/// The kinds of node alarms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum NodeAlarmKind {
    /// A block's time was so far off this node's clock that the node did not sign the block.
    ClockOffset { height: u64, offset_ms: u64 },
    /// This node's clock is off those of a quorum, so it does not lead. Positive if the others are
    /// ahead.
    ClockDiffers {
        #[cfg_attr(
            feature = "openapi",
            schema(minimum = -9007199254740991_i64, maximum = 9007199254740991_i64)
        )]
        offset_ms: i64,
    },
    /// A leader proposed a batch too far ahead of this node's clock, so it is not followed.
    EarlyBatch { leader: u64, ahead_ms: u64 },
    /// A committed batch made no block on this node: it is malformed, or does not follow the last.
    VoidBatch { log_index: u64 },
    /// A validator signed another header than this node computed, and neither is certified. It
    /// accuses nobody.
    Divergence { attestation: Attestation },
    /// A validator signed two headers for one height: the attestations are evidence against its
    /// key.
    DoubleAttestation { attestations: Vec<Attestation> },
    /// A node is proven to have signed two contents for one place, and is excluded from consensus.
    /// The file with the evidence is on the disk of the node that reports it.
    Equivocation {
        node: u64,
        key: PublicKey,
        file: String,
    },
    /// The node that leads is no validator that the ledger lets lead.
    LeaderNoElector { leader: u64 },
    /// A validator has no vote in consensus.
    ValidatorNoVoter { node: u64 },
    /// The logs of the validators differ from this index on, and none of them went for some time:
    /// people have to decide.
    LogsDiffer { log_index: u64 },
    /// The disk has less free than the reserve: the node is read-only until there is space.
    DiskFull { free_bytes: u64, reserve_bytes: u64 },
    /// An artifact was damaged on this disk; it was moved aside and is fetched again.
    DamagedArtifact { artifact: Hash },
    /// From this height on the chain runs a protocol version that the node's program does not know.
    NewerProtocol { version: u32, from_height: u64 },
}

/// The progress of a node that catches up with the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SyncProgress {
    /// `connecting` (no leader is known), `comparing` (the height of the others is not known yet),
    /// `receiving` (an image of the chain), `installing` (the image), `catching_up` (with the
    /// blocks after the image), `following`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub phase: String,
    /// Height of the image that is being installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_height: Option<u64>,
    /// Bytes received or installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes to be received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// The part of `bytes` that was here when the transfer began or continued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks_behind: Option<u64>,
    /// Bytes or blocks.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub per_second: u64,
    /// Seconds until the phase ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}
