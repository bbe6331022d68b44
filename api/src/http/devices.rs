//! `/v1/devices`: the registry of devices, with the history, events and configuration of each.

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::{config, devices, events};
use lamplighter_state::tables::{self, Subject};
use lamplighter_state::{StateError, View};
use lamplighter_store::Direction;
use lamplighter_types::wire::{
    DeviceConfig, DeviceEvents, EventEntry, HistoryEntry, Page, RecordResponse,
};
use lamplighter_types::{Device, DeviceState, Id, Scope};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::{Path, Query};
use super::read::{self, AtHeight, List, PageQuery, Read, ReadQuery, view};
use crate::rights::{Kind, Record, Rights};

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
    /// 100 if absent. 0 is taken as 1, and a number above 1,000 as 1,000.
    #[param(value_type = Option<u64>)]
    #[serde(default, deserialize_with = "read::read_limit")]
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
    Extension(rights): Extension<Rights>,
    Query(query): Query<DeviceQuery>,
) -> Result<AtHeight<Page<Device>>, ApiError> {
    let DeviceQuery {
        min_height,
        linearizable,
        after,
        limit,
        gateway,
        district,
        owner,
    } = query;
    let filters = [gateway.is_some(), district.is_some(), owner.is_some()];
    if filters.into_iter().filter(|is_set| *is_set).count() > 1 {
        let detail = "give one of gateway, district, owner";
        return Err(ApiError::invalid(code::PARAMETER, detail));
    }
    let page = PageQuery {
        min_height,
        linearizable,
        after,
        limit,
    };
    // Where all that is readable is in one list, only that one is read.
    let is_open = !filters.contains(&true);
    let gateway = gateway.or_else(|| rights.only_gateway().filter(|_| is_open).cloned());
    let district = district.or_else(|| rights.only_district().filter(|_| is_open).cloned());
    let list = List {
        list: move |state: &View, after: Option<&Id>, limit| match (&gateway, &district, &owner) {
            (Some(gateway), ..) => devices::by_gateway(state, gateway, after, limit),
            (_, Some(district), _) => devices::in_district(state, district, after, limit),
            (.., Some(owner)) => devices::by_owner(state, owner, after, limit),
            (None, None, None) => devices::devices(state, after, limit),
        },
        place: |device: &Device| device.device.clone(),
        cursor: |device: &Device| device.device.to_string(),
        kind: Kind::Device,
        record: |device| Record::Device(device),
    };
    read::page(&app, &page, &rights, list).await
}

/// A device.
#[utoipa::path(get, path = "/v1/devices/{device}", tag = "devices",
    params(("device" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<Device>), (status = 404, body = Problem)))]
async fn device(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<AtHeight<RecordResponse<Device>>, ApiError> {
    let key = devices::keys::device(&id);
    let what = format!("device {id}");
    let read = Read {
        key: &key,
        what,
        subject: Some(Subject::DeviceRecord(id)),
    };
    read::record(&app, &query, &rights, read, |device| Record::Device(device)).await
}

/// The firmware of a device, and the counters it has used.
#[utoipa::path(get, path = "/v1/devices/{device}/state", tag = "devices",
    params(("device" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<DeviceState>), (status = 404, body = Problem)))]
async fn state(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<AtHeight<RecordResponse<DeviceState>>, ApiError> {
    let key = devices::keys::state(&id);
    let read = Read {
        key: &key,
        what: format!("state of device {id}"),
        subject: None,
    };
    read::record_for(&app, &query, &rights, read, &Record::DeviceNamed(&id)).await
}

/// Everything that happened to a device, newest first: who did it, when, and in which transaction.
/// At most 100 at a time.
#[utoipa::path(get, path = "/v1/devices/{device}/history", tag = "devices",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<AtHeight<Page<HistoryEntry>>, ApiError> {
    read::history(&app, &query, &rights, Subject::Device(id)).await
}

/// The events of a device, newest first.
#[utoipa::path(get, path = "/v1/devices/{device}/events", tag = "events",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = DeviceEvents)))]
async fn device_events(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<AtHeight<DeviceEvents>, ApiError> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    read::require(&app, &rights, &state, &Record::DeviceNamed(&id)).await?;
    let (after, limit) = (query.after::<u64>()?, query.limit());
    let read = move || {
        let store = &**state.store();
        let entries = tables::device_events(store, &id, after, Direction::Backward, limit)?;
        Ok::<_, StateError>((entries, events::cursor(&state, &id)?))
    };
    let (entries, newest) = read::off_thread(&app, read).await?;
    let items = entries.into_iter().map(|entry| EventEntry {
        height: entry.height,
        index: entry.index,
        record: entry.record,
    });
    let cursor = |e: &EventEntry| e.record.event.sequence.to_string();
    let Page { items, next } = Page::new(items.collect(), limit, cursor);
    let body = DeviceEvents {
        cursor: newest,
        items,
        next,
    };
    Ok(AtHeight {
        height: head.height,
        body,
    })
}

/// The desired and the reported configuration of a device.
#[utoipa::path(get, path = "/v1/devices/{device}/config", tag = "config",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = DeviceConfig), (status = 404, body = Problem)))]
async fn device_config(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<AtHeight<DeviceConfig>, ApiError> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let (missing, readable) = (format!("device {id}"), rights.clone());
    let read = move || {
        let Some(device) = devices::device(&state, &id)? else {
            return Ok(None);
        };
        let allowed = readable.at(&state).allows(&Record::Device(&device))?;
        let effective = config::effective(&state, &device)?;
        let reported = config::reported(&state, &id)?;
        Ok::<_, StateError>(Some((allowed, effective, reported)))
    };
    let found = read::off_thread(&app, read).await?;
    let (allowed, (effective, hash), reported) =
        found.ok_or_else(|| ApiError::not_found(missing))?;
    if !allowed {
        return Err(read::outside());
    }
    let in_sync = reported
        .as_ref()
        .is_some_and(|r| r.applied && r.document == hash);
    let body = DeviceConfig {
        effective,
        hash,
        reported,
        in_sync,
    };
    Ok(AtHeight {
        height: head.height,
        body,
    })
}
