//! `/v1/status` and `/v1/genesis`: open to everybody, so that a client can find its bearings.

use axum::Json;
use axum::extract::State;
use lamplighter_ledger::{DiskFull, NodeAlarm, Phase, Progress, RaisedAlarm};
use lamplighter_types::{Attestation, Genesis, Hash};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::read::At;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(genesis))
}

/// Where this node stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Status {
    chain_id: Hash,
    name: String,
    /// Of the software.
    version: &'static str,
    node: u64,
    height: u64,
    head: Hash,
    /// Block time of the head, Unix ms.
    head_time_ms: u64,
    certified_height: u64,
    leader: Option<u64>,
    /// Transactions waiting for their block at this node.
    pending: usize,
    /// Node ids of the peers that are connected.
    connected: Vec<u64>,
    /// What the operator should look at.
    alarms: Vec<NodeAlarmStatus>,
    /// Why this node stopped applying, if it did.
    halted: Option<String>,
    progress: Catching,
}

/// What the node noticed about itself or another one. Devices have alarms of their own.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NodeAlarmStatus {
    #[serde(flatten)]
    alarm: NodeAlarmKind,
    /// When it was noticed, Unix ms by this node's clock.
    time_ms: u64,
    /// For people.
    message: String,
}

/// What was noticed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NodeAlarmKind {
    /// A block's time was so far off this node's clock that it did not sign it.
    ClockOffset { height: u64, offset_ms: u64 },
    /// A validator signed another header than this node computed; the attestation is evidence.
    Contradiction { attestation: Attestation },
    /// The disk has less free than the reserve: the node is read-only until there is space.
    DiskFull { free_bytes: u64, reserve_bytes: u64 },
    /// An artifact was damaged on this disk; it was moved aside and is fetched again.
    DamagedArtifact { artifact: Hash },
}

impl From<RaisedAlarm> for NodeAlarmStatus {
    fn from(RaisedAlarm { alarm, time_ms }: RaisedAlarm) -> Self {
        let message = alarm.to_string();
        let alarm = match alarm {
            NodeAlarm::ClockOffset { height, offset_ms } => {
                NodeAlarmKind::ClockOffset { height, offset_ms }
            }
            NodeAlarm::Contradiction(attestation) => NodeAlarmKind::Contradiction { attestation },
            NodeAlarm::DiskFull(DiskFull {
                free_bytes,
                reserve_bytes,
            }) => NodeAlarmKind::DiskFull {
                free_bytes,
                reserve_bytes,
            },
            NodeAlarm::DamagedArtifact(artifact) => NodeAlarmKind::DamagedArtifact { artifact },
        };
        Self {
            alarm,
            time_ms,
            message,
        }
    }
}

/// How far this node is behind the others.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Catching {
    /// `connecting` (no leader is known), `comparing` (not yet known what the others have),
    /// `receiving` (an image of the chain), `installing` (it), `catching_up` (with the blocks after
    /// it), `following`.
    phase: &'static str,
    /// Of the image that is being installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_height: Option<u64>,
    /// Received, or installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// To be received.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_total: Option<u64>,
    /// Of `bytes`, those that were here when the transfer began or went on.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks_behind: Option<u64>,
    /// Bytes or blocks.
    per_second: u64,
    /// Until the phase ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
}

impl From<Progress> for Catching {
    fn from(progress: Progress) -> Self {
        let mut told = Self {
            phase: progress.phase.name(),
            per_second: progress.per_second as u64,
            seconds_left: progress.remaining.map(|left| left.as_secs()),
            ..Self::default()
        };
        match progress.phase {
            Phase::Connecting | Phase::Comparing | Phase::Following => {}
            Phase::Receiving(transfer) => {
                told.bytes = Some(transfer.bytes);
                told.bytes_total = Some(transfer.bytes_total);
                told.bytes_before = Some(transfer.bytes_before);
            }
            Phase::Installing(installation) => {
                told.image_height = Some(installation.height);
                told.bytes = Some(installation.bytes);
            }
            Phase::CatchingUp { blocks_behind } => told.blocks_behind = Some(blocks_behind),
        }
        told
    }
}

/// Where this node stands.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, body = Status)))]
async fn status(State(app): State<App>) -> At<Status> {
    let status = app.handle.status();
    let height = status.head.height;
    let body = Status {
        chain_id: app.handle.chain_id(),
        name: app.handle.genesis().name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        node: status.node,
        height: status.head.height,
        head: status.head.hash,
        head_time_ms: status.head.timestamp_ms,
        certified_height: status.certified_height,
        leader: status.consensus.leader,
        pending: status.pending,
        connected: status.connected,
        alarms: status.alarms.into_iter().map(Into::into).collect(),
        halted: status.halted.map(|halt| halt.to_string()),
        progress: status.progress.into(),
    };
    At { height, body }
}

/// The genesis file, the trust root. Compare its chain id with the one you were given by hand.
#[utoipa::path(get, path = "/v1/genesis", tag = "status",
    responses((status = 200, body = Genesis)))]
async fn genesis(State(app): State<App>) -> Json<Genesis> {
    Json(app.handle.genesis().clone())
}
