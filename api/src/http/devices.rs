//! `/v1/devices`: the registry of devices, with the history, events and configuration of each.

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::{config, devices, events};
use lamplighter_state::View;
use lamplighter_state::tables::{self, Subject};
use lamplighter_store::Direction;
use lamplighter_types::filter::{DeviceField, FieldValue, Filter, FilterError};
use lamplighter_types::wire::{
    DeviceConfig, DeviceEvents, EventEntry, HistoryEntry, Page, RecordResponse,
};
use lamplighter_types::{Device, DeviceState, Id, Scope};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::{Path, Query};
use super::read::{self, JsonAt, List, PageQuery, Read, ReadQuery, view};
use crate::rights::{Kind, Record, Rights};
use crate::search::{Needs, Search, SearchedDevice};

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
    /// Only those that match a filter in RSQL, as `model==Lamp*;last_seen=lt=-24h`.
    #[param(max_length = 2048)]
    filter: Option<String>,
}

impl DeviceQuery {
    /// The page that is wanted, and all filters as one.
    pub fn parts(self) -> Result<(PageQuery, Option<Filter>), ApiError> {
        let Self {
            min_height,
            linearizable,
            after,
            limit,
            gateway,
            district,
            owner,
            filter,
        } = self;
        let text = |field, id: Id| Filter::equal(field, FieldValue::Text(id.to_string()));
        let parts = [
            gateway.map(|gateway| text(DeviceField::Gateway, gateway)),
            district.map(|district| {
                Filter::equal(DeviceField::District, FieldValue::District(district))
            }),
            owner.map(|owner| text(DeviceField::Owner, owner)),
            filter.as_deref().map(parse_filter).transpose()?,
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let page = PageQuery {
            min_height,
            linearizable,
            after,
            limit,
        };
        Ok((page, (!parts.is_empty()).then_some(Filter::All(parts))))
    }
}

/// Parses a filter of devices; the error names the place of the fault.
pub fn parse_filter(text: &str) -> Result<Filter, ApiError> {
    let refused = |error: FilterError| ApiError::invalid(code::FILTER, error.to_string());
    text.parse().map_err(refused)
}

/// Devices by id. `gateway`, `district`, `owner` and `filter` narrow the list together. A page may
/// be short or empty while its `next` leads on.
#[utoipa::path(get, path = "/v1/devices", tag = "devices", params(DeviceQuery),
    responses((status = 200, body = Page<Device>), (status = 400, body = Problem)))]
async fn devices_list(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<DeviceQuery>,
) -> Result<JsonAt<Page<Device>>, ApiError> {
    let (page, filter) = query.parts()?;
    if filter.is_some() || !rights.reads_all_devices() {
        return searched(&app, &page, rights, filter, Needs::default(), Device::from).await;
    }
    let list = List {
        list: |state: &View, after: Option<&Id>, limit| devices::devices(state, after, limit),
        place: |device: &Device| device.device.clone(),
        cursor: |device: &Device| device.device.to_string(),
        kind: Kind::Device,
        record: |device| Record::Device(device),
    };
    read::page(&app, &page, &rights, list).await
}

/// Reads a page of the devices that match a filter.
pub async fn searched<T: Serialize + Send + 'static>(
    app: &App,
    query: &PageQuery,
    rights: Rights,
    filter: Option<Filter>,
    needs: Needs,
    show: impl Fn(SearchedDevice) -> T + Send + 'static,
) -> Result<JsonAt<Page<T>>, ApiError> {
    let (after, limit) = (query.after::<Id>()?, query.limit());
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let read = move || {
        let search = Search {
            view: &state,
            rights: &rights.at(&state),
            filter: filter.as_ref(),
            needs,
            now_ms: head.timestamp_ms,
        };
        let found = search.page(after.as_ref(), limit)?;
        let page = Page {
            items: found.items.into_iter().map(show).collect(),
            next: found.next.map(|next| next.to_string()),
        };
        JsonAt::new(head.height, &page)
    };
    read::off_thread(app, read).await
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
) -> Result<JsonAt<RecordResponse<Device>>, ApiError> {
    let key = devices::keys::device(&id);
    let what = format!("device {id}");
    let read = Read {
        key: &key,
        kind: Kind::Device,
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
) -> Result<JsonAt<RecordResponse<DeviceState>>, ApiError> {
    let key = devices::keys::state(&id);
    let read = Read {
        key: &key,
        kind: Kind::Device,
        what: format!("state of device {id}"),
        subject: None,
    };
    read::record_of(&app, &query, &rights, read, Subject::Device(id)).await
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
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
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
) -> Result<JsonAt<DeviceEvents>, ApiError> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let (after, limit) = (query.after::<u64>()?, query.limit());
    let read = move || {
        if !rights.at(&state).allows(&Record::DeviceNamed(&id))? {
            return Err(read::outside());
        }
        let store = &**state.store();
        let entries = tables::device_events(store, &id, after, Direction::Backward, limit)?;
        let items = entries.into_iter().map(|entry| EventEntry {
            height: entry.height,
            index: entry.index,
            record: entry.record,
        });
        let cursor = |e: &EventEntry| e.record.event.sequence.to_string();
        let Page { items, next } = Page::new(items.collect(), limit, cursor);
        let events = DeviceEvents {
            cursor: events::cursor(&state, &id)?,
            items,
            next,
        };
        JsonAt::new(head.height, &events)
    };
    read::off_thread(&app, read).await
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
) -> Result<JsonAt<DeviceConfig>, ApiError> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let read = move || {
        let device = devices::device(&state, &id)?;
        let device = device.ok_or_else(|| ApiError::not_found(format!("device {id}")))?;
        if !rights.at(&state).allows(&Record::Device(&device))? {
            return Err(read::outside());
        }
        let (effective, hash) = config::effective(&state, &device)?;
        let reported = config::reported(&state, &id)?;
        let in_sync = reported
            .as_ref()
            .is_some_and(|r| r.applied && r.document == hash);
        let config = DeviceConfig {
            effective,
            hash,
            reported,
            in_sync,
        };
        JsonAt::new(head.height, &config)
    };
    read::off_thread(&app, read).await
}
