//! `/v1/status` and `/v1/genesis`: open to everybody, so that a client can orient itself.

use std::error::Error;

use axum::Json;
use axum::extract::State;
use lamplighter_ledger::{DiskFull, NodeAlarm, Phase, Progress, RaisedAlarm};
use lamplighter_types::protocol::PROTOCOL_VERSION;
use lamplighter_types::wire::{
    NextProtocol, NodeAlarmKind, NodeAlarmStatus, ProtocolStatus, Status, SyncProgress,
};
use lamplighter_types::{Genesis, Protocol};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::read::AtHeight;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(genesis))
}

fn alarm_status(RaisedAlarm { alarm, time_ms }: RaisedAlarm) -> NodeAlarmStatus {
    let message = alarm.to_string();
    let alarm = match alarm {
        NodeAlarm::ClockOffset { height, offset_ms } => {
            NodeAlarmKind::ClockOffset { height, offset_ms }
        }
        NodeAlarm::ClockDiffers { offset_ms } => NodeAlarmKind::ClockDiffers { offset_ms },
        NodeAlarm::EarlyBatch { leader, ahead_ms } => {
            NodeAlarmKind::EarlyBatch { leader, ahead_ms }
        }
        NodeAlarm::VoidBatch { log_index } => NodeAlarmKind::VoidBatch { log_index },
        NodeAlarm::Divergence(attestation) => NodeAlarmKind::Divergence { attestation },
        NodeAlarm::DoubleAttestation(attestations) => {
            let attestations = (*attestations).into();
            NodeAlarmKind::DoubleAttestation { attestations }
        }
        NodeAlarm::Equivocation { node, key, file } => {
            NodeAlarmKind::Equivocation { node, key, file }
        }
        NodeAlarm::LeaderNoElector { leader } => NodeAlarmKind::LeaderNoElector { leader },
        NodeAlarm::ValidatorNoVoter { node } => NodeAlarmKind::ValidatorNoVoter { node },
        NodeAlarm::LogsDiffer { log_index } => NodeAlarmKind::LogsDiffer { log_index },
        NodeAlarm::DiskFull(DiskFull {
            free_bytes,
            reserve_bytes,
        }) => NodeAlarmKind::DiskFull {
            free_bytes,
            reserve_bytes,
        },
        NodeAlarm::DamagedArtifact(artifact) => NodeAlarmKind::DamagedArtifact { artifact },
        NodeAlarm::NewerProtocol {
            version,
            from_height,
        } => NodeAlarmKind::NewerProtocol {
            version,
            from_height,
        },
    };
    NodeAlarmStatus {
        alarm,
        time_ms,
        message,
    }
}

/// The rest of the status serves all the more when the state can't be read.
fn protocol_status(app: &App) -> Option<ProtocolStatus> {
    match app.handle.protocol() {
        Ok(Protocol { version, next }) => Some(ProtocolStatus {
            version,
            next: next.map(|(version, from_height)| NextProtocol {
                version,
                from_height,
            }),
            known: PROTOCOL_VERSION,
        }),
        Err(error) => {
            tracing::error!(error = &error as &dyn Error, "reading the protocol");
            None
        }
    }
}

fn sync_progress(progress: Progress) -> SyncProgress {
    let mut sync = SyncProgress {
        phase: progress.phase.name().to_owned(),
        per_second: progress.per_second as u64,
        seconds_left: progress.remaining.map(|left| left.as_secs()),
        ..SyncProgress::default()
    };
    match progress.phase {
        Phase::Connecting | Phase::Comparing | Phase::Following => {}
        Phase::Receiving(transfer) => {
            sync.bytes = Some(transfer.bytes);
            sync.bytes_total = Some(transfer.bytes_total);
            sync.bytes_before = Some(transfer.bytes_before);
        }
        Phase::Installing(installation) => {
            sync.image_height = Some(installation.height);
            sync.bytes = Some(installation.bytes);
        }
        Phase::CatchingUp { blocks_behind } => sync.blocks_behind = Some(blocks_behind),
    }
    sync
}

/// The state of this node and of its copy of the chain.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, body = Status)))]
async fn status(State(app): State<App>) -> AtHeight<Status> {
    let status = app.handle.status();
    let height = status.head.height;
    let body = Status {
        chain_id: app.handle.chain_id(),
        name: app.handle.genesis().name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: protocol_status(&app),
        node: status.node,
        height,
        head: status.head.hash,
        head_time_ms: status.head.timestamp_ms,
        certified_height: status.certified_height,
        leader: status.consensus.leader,
        pending: status.pending,
        connected: status.connected,
        alarms: status.alarms.into_iter().map(alarm_status).collect(),
        halted: status.halted.map(|halt| halt.to_string()),
        progress: sync_progress(status.progress),
    };
    AtHeight { height, body }
}

/// The genesis file, the trust root. Compare its chain id with the one that you got by hand.
#[utoipa::path(get, path = "/v1/genesis", tag = "status",
    responses((status = 200, body = Genesis)))]
async fn genesis(State(app): State<App>) -> Json<Genesis> {
    Json(app.handle.genesis().clone())
}
