//! `/v1/status` and `/v1/genesis`: open to everybody, so that a client can find its bearings.

use axum::Json;
use axum::extract::State;
use lamplighter_types::{Genesis, Hash};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;

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
    alarms: Vec<String>,
    /// Why this node stopped applying, if it did.
    halted: Option<String>,
}

/// Where this node stands.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses((status = 200, body = Status)))]
async fn status(State(app): State<App>) -> Json<Status> {
    let status = app.handle.status();
    Json(Status {
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
        alarms: status
            .alarms
            .iter()
            .map(|alarm| format!("{alarm:?}"))
            .collect(),
        halted: status.halted.map(|halt| halt.to_string()),
    })
}

/// The genesis file, the trust root. Compare its chain id with the one you were given by hand.
#[utoipa::path(get, path = "/v1/genesis", tag = "status",
    responses((status = 200, body = Genesis)))]
async fn genesis(State(app): State<App>) -> Json<Genesis> {
    Json(app.handle.genesis().clone())
}
