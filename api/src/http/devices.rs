//! `/v1/devices`: the registry of devices, and what happened to each.

use axum::extract::State;
use lamplighter_contracts::{config, devices, events};
use lamplighter_state::tables::{self, Subject};
use lamplighter_store::Direction;
use lamplighter_types::record::ReportedConfig;
use lamplighter_types::{Device, DeviceState, EventCursor, EventRecord, Hash, Id, Scope};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::read::{self, At, HistoryEntry, One, Page, PageQuery, ReadQuery, one, view};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(devices_list))
        .routes(routes!(device))
        .routes(routes!(state))
        .routes(routes!(history))
        .routes(routes!(device_events))
        .routes(routes!(device_config))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DeviceQuery {
    /// Waits until this node has reached the height.
    min_height: Option<u64>,
    /// Asks the leader first: the answer shows everything that was acknowledged before the request.
    #[serde(default)]
    linearizable: bool,
    /// The `next` of the page before.
    after: Option<String>,
    /// 100 if absent; others are taken as the nearest of these.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Only those of a gateway.
    gateway: Option<Id>,
    /// Only those in a district and below it.
    district: Option<Scope>,
    /// Only those of an organization.
    owner: Option<Id>,
}

/// Devices by id; at most one of `gateway`, `district`, `owner` narrows the list.
#[utoipa::path(get, path = "/v1/devices", tag = "devices", params(DeviceQuery),
    responses((status = 200, body = Page<Device>), (status = 400, body = Problem)))]
async fn devices_list(
    State(app): State<App>,
    Query(query): Query<DeviceQuery>,
) -> Result<At<Page<Device>>, Problem> {
    let DeviceQuery {
        min_height,
        linearizable,
        after,
        limit,
        gateway,
        district,
        owner,
    } = query;
    let page = PageQuery {
        min_height,
        linearizable,
        after,
        limit,
    };
    let (state, head) = view(&app, min_height, linearizable).await?;
    let (after, limit) = (page.after::<Id>()?, page.limit());
    let after = after.as_ref();
    let items = match (gateway, district, owner) {
        (None, None, None) => devices::devices(&state, after, limit)?,
        (Some(gateway), None, None) => devices::by_gateway(&state, &gateway, after, limit)?,
        (None, Some(district), None) => devices::in_district(&state, &district, after, limit)?,
        (None, None, Some(owner)) => devices::by_owner(&state, &owner, after, limit)?,
        _ => {
            return Err(Problem::invalid(
                "parameter",
                "give one of gateway, district, owner",
            ));
        }
    };
    let body = Page::new(items, limit, |d| d.device.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}

/// A device.
#[utoipa::path(get, path = "/v1/devices/{device}", tag = "devices",
    params(("device" = Id, Path), ReadQuery),
    responses((status = 200, body = One<Device>), (status = 404, body = Problem)))]
async fn device(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<At<One<Device>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let found = devices::device(&state, &id)?;
    let key = devices::keys::device(&id);
    let found = one(
        &app,
        &query,
        head,
        found,
        format!("device {id}"),
        key.as_bytes(),
    )
    .await?;
    found.with_change(&state, &Subject::DeviceRecord(id))
}

/// What a device runs, and the counters it has used.
#[utoipa::path(get, path = "/v1/devices/{device}/state", tag = "devices",
    params(("device" = Id, Path), ReadQuery),
    responses((status = 200, body = One<DeviceState>), (status = 404, body = Problem)))]
async fn state(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<At<One<DeviceState>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let found = devices::state(&state, &id)?;
    let key = devices::keys::state(&id);
    one(
        &app,
        &query,
        head,
        found,
        format!("state of device {id}"),
        key.as_bytes(),
    )
    .await
}

/// Everything that happened to a device, newest first: who did it, when, and by which transaction.
/// At most 100 at a time.
#[utoipa::path(get, path = "/v1/devices/{device}/history", tag = "devices",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn history(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    read::history(&app, &query, Subject::Device(id)).await
}

/// A recorded event, and where it is proven: `/v1/proofs/events/{height}/{index}`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventEntry {
    height: u64,
    index: u32,
    record: EventRecord,
}

/// The events of a device.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeviceEvents {
    /// Which numbers have come, and which are missing.
    cursor: EventCursor,
    items: Vec<EventEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The events of a device, newest first.
#[utoipa::path(get, path = "/v1/devices/{device}/events", tag = "events",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = DeviceEvents)))]
async fn device_events(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<DeviceEvents>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let (after, limit) = (query.after::<u64>()?, query.limit());
    let store = &**state.store();
    let found = tables::device_events(store, &id, after, Direction::Backward, limit)?;
    let items = found.into_iter().map(|entry| EventEntry {
        height: entry.height,
        index: entry.index,
        record: entry.record,
    });
    let last = |e: &EventEntry| e.record.event.sequence.to_string();
    let Page { items, next } = Page::new(items.collect(), limit, last);
    let body = DeviceEvents {
        cursor: events::cursor(&state, &id)?,
        items,
        next,
    };
    Ok(At {
        height: head.height,
        body,
    })
}

/// Desired and reported configuration of a device.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeviceConfig {
    /// The merged document, JSON text.
    effective: String,
    /// blake3 of `effective`; equal to the reported one when the device follows.
    hash: Hash,
    reported: Option<ReportedConfig>,
    in_sync: bool,
}

/// What a device should be set to and what it says it is set to.
#[utoipa::path(get, path = "/v1/devices/{device}/config", tag = "config",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = DeviceConfig), (status = 404, body = Problem)))]
async fn device_config(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<DeviceConfig>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let device =
        devices::device(&state, &id)?.ok_or_else(|| Problem::not_found(format!("device {id}")))?;
    let (effective, hash) = config::effective(&state, &device)?;
    let reported = config::reported(&state, &id)?;
    let in_sync = reported
        .as_ref()
        .is_some_and(|r| r.applied && r.document == hash);
    let body = DeviceConfig {
        effective,
        hash,
        reported,
        in_sync,
    };
    Ok(At {
        height: head.height,
        body,
    })
}
