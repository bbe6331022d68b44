//! The operator's listener: `/healthz`, `/readyz`, `/metrics`. It must not be public.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use lamplighter_ledger::Handle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::json;

struct Metrics {
    handle: Handle,
    registry: Registry,
    height: Gauge,
    certified: Gauge,
    pending: Gauge,
    peers: Gauge,
    leads: Gauge,
    alarms: Gauge,
    read_only: Gauge,
}

pub fn router(handle: Handle, collectors: Vec<Box<dyn Collector>>) -> Router {
    let metrics = Arc::new(Metrics::new(handle, collectors));
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(metrics)
}

impl Metrics {
    fn new(handle: Handle, collectors: Vec<Box<dyn Collector>>) -> Self {
        let mut registry = Registry::with_prefix("lamplighter");
        for collector in collectors {
            registry.register_collector(collector);
        }
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::<i64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let height = gauge("height", "Height of the newest block");
        let certified = gauge("certified_height", "Height of the newest certificate");
        let pending = gauge(
            "pending_transactions",
            "Transactions waiting for their block",
        );
        let peers = gauge("connected_peers", "Nodes that are connected");
        let leads = gauge("leads", "1 if this node leads");
        let alarms = gauge("alarms", "What the operator should look at");
        let read_only = gauge("read_only", "1 while the disk is too full to go on");
        Self {
            handle,
            registry,
            height,
            certified,
            pending,
            peers,
            leads,
            alarms,
            read_only,
        }
    }
}

/// The node is ready when a leader is known, blocks are applied, and no alarm says that it does not
/// serve: `reasons` has them.
async fn ready(State(metrics): State<Arc<Metrics>>) -> Response {
    let status = metrics.handle.status();
    let alarms = status.alarms.iter().map(|raised| &raised.alarm);
    let alarms = alarms.filter(|alarm| alarm.is_unready());
    let mut reasons: Vec<_> = alarms.map(ToString::to_string).collect();
    reasons.extend(status.cut_off.map(|cut_off| cut_off.to_string()));
    let ready = status.consensus.leader.is_some() && status.halted.is_none() && reasons.is_empty();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let read_only = status.disk_full.map(|full| full.to_string());
    let halted = status.halted.map(|halt| halt.to_string());
    let body = json!({
        "ready": ready,
        "leader": status.consensus.leader,
        "height": status.head.height,
        "halted": halted,
        "read_only": read_only,
        "reasons": reasons,
        "identity": status.identity_trouble,
    });
    (code, Json(body)).into_response()
}

async fn metrics_text(State(metrics): State<Arc<Metrics>>) -> Response {
    let status = metrics.handle.status();
    metrics.height.set(status.head.height as i64);
    metrics.certified.set(status.certified_height as i64);
    metrics.pending.set(status.pending as i64);
    metrics.peers.set(status.connected.len() as i64);
    metrics
        .leads
        .set(i64::from(status.consensus.leader == Some(status.node)));
    metrics.alarms.set(status.alarms.len() as i64);
    metrics.read_only.set(i64::from(status.disk_full.is_some()));
    let mut text = String::new();
    if encode(&mut text, &metrics.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
