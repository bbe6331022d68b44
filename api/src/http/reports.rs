//! `/v1/reports/devices`: what several records say together of each device.

use axum::Extension;
use axum::extract::State;
use lamplighter_types::wire::{DeviceSummary, Page};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::devices::{DeviceQuery, searched};
use super::error::{ApiError, Problem};
use super::extract::Query;
use super::read::JsonAt;
use crate::rights::Rights;
use crate::search::{Needs, SearchedDevice};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(devices_report))
}

/// Devices with what each runs, its active alarms and when it was last seen, by id. A page may
/// be short or empty while its `next` leads on.
#[utoipa::path(get, path = "/v1/reports/devices", tag = "reports", params(DeviceQuery),
    responses((status = 200, body = Page<DeviceSummary>), (status = 400, body = Problem)))]
async fn devices_report(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<DeviceQuery>,
) -> Result<JsonAt<Page<DeviceSummary>>, ApiError> {
    let (page, filter) = query.parts()?;
    searched(&app, &page, rights, filter, Needs::ALL, summary).await
}

fn summary(found: SearchedDevice) -> DeviceSummary {
    let SearchedDevice {
        device,
        state,
        config,
        alarms,
        last_seen,
    } = found;
    let seen = last_seen.filter(|seen| seen.has_reported);
    let state = state.as_ref();
    DeviceSummary {
        device: device.device,
        model: device.model,
        hardware_class: device.hardware_class,
        district: device.district,
        gateway: device.gateway,
        owner: device.owner,
        status: device.status,
        tags: device.tags,
        version: state.and_then(|state| state.version),
        release: state.and_then(|state| state.release.clone()),
        drifted: state.is_some_and(|state| state.drifted),
        rollout: state.and_then(|state| state.active_rollout.clone()),
        config: config.as_ref().map(|config| config.document),
        config_applied: config.is_some_and(|config| config.applied),
        alarms,
        last_seen_ms: seen.map(|seen| seen.time_ms),
        registered_height: device.registered_height,
    }
}
