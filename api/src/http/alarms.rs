//! `/v1/alarms`. The events of a device are with the device.

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::events;
use lamplighter_state::View;
use lamplighter_state::tables::Subject;
use lamplighter_types::limits::NUMBER_MAX;
use lamplighter_types::wire::{HistoryEntry, Page, RecordResponse};
use lamplighter_types::{Alarm, AlarmId, Id};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::{Path, Query};
use super::read::{self, JsonAt, List, PageQuery, Read, ReadQuery, parse, view};
use crate::rights::{Kind, Record, Rights};
use crate::search::Search;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(open_alarms))
        .routes(routes!(device_alarms))
        .routes(routes!(alarm))
        .routes(routes!(alarm_history))
}

/// Alarms that are active or not acknowledged, by device.
#[utoipa::path(get, path = "/v1/alarms", tag = "events", params(PageQuery),
    responses((status = 200, body = Page<Alarm>)))]
async fn open_alarms(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Alarm>>, ApiError> {
    let after = query.after.as_deref().map(parse_alarm_id).transpose()?;
    if !rights.reads_all_devices() {
        return alarms_in_scope(&app, &query, rights, after).await;
    }
    let list = List {
        list: move |state: &View, after: Option<&AlarmId>, limit| {
            events::open_alarms(state, after, limit)
        },
        place: |item: &Alarm| item.alarm.clone(),
        cursor: |item: &Alarm| cursor(&item.alarm),
        kind: Kind::Device,
        record: |alarm| Record::DeviceNamed(&alarm.alarm.device),
    };
    read::page_after(&app, &query, &rights, after, list).await
}

/// The open alarms of the devices that the account may read: only these devices are looked at.
async fn alarms_in_scope(
    app: &App,
    query: &PageQuery,
    rights: Rights,
    after: Option<AlarmId>,
) -> Result<JsonAt<Page<Alarm>>, ApiError> {
    let limit = query.limit();
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let read = move || {
        let rights = rights.at(&state);
        let mut items = Vec::new();
        if let Some(AlarmId { device, sequence }) = &after
            && rights.allows(&Record::DeviceNamed(device))?
        {
            items = events::alarms(&state, device, Some(*sequence), limit)?;
        }
        let mut next = None;
        if items.len() < limit {
            let search = Search::for_all(&state, &rights, head.timestamp_ms);
            let after = after.as_ref().map(|after| &after.device);
            let of = |devices: &[Id]| events::alarms_of(&state, devices);
            let found = search.records(after, limit - items.len(), of)?;
            items.extend(found.items);
            // The alarms of this device were all looked at.
            next = found.next.map(|device| AlarmId {
                device,
                sequence: NUMBER_MAX,
            });
        }
        if items.len() >= limit {
            items.truncate(limit);
            next = items.last().map(|item| item.alarm.clone());
        }
        let next = next.as_ref().map(cursor);
        JsonAt::new(head.height, &Page { items, next })
    };
    read::off_thread(app, read).await
}

fn cursor(alarm: &AlarmId) -> String {
    format!("{}:{}", alarm.device, alarm.sequence)
}

/// The id of an alarm; no event has a number above 2^53 - 1.
fn alarm_id(device: Id, sequence: u64) -> Result<AlarmId, ApiError> {
    if sequence > NUMBER_MAX {
        let detail = format!("the number of an event is at most {NUMBER_MAX}");
        return Err(ApiError::invalid(code::PARAMETER, detail));
    }
    Ok(AlarmId { device, sequence })
}

fn parse_alarm_id(text: &str) -> Result<AlarmId, ApiError> {
    let malformed = || ApiError::invalid(code::PARAMETER, "an alarm cursor is device:sequence");
    let (device, sequence) = text.rsplit_once(':').ok_or_else(malformed)?;
    alarm_id(parse(device)?, parse(sequence)?)
}

/// The open alarms of a device, oldest first. Closed ones are in the history of the device.
#[utoipa::path(get, path = "/v1/devices/{device}/alarms", tag = "events",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<Alarm>)))]
async fn device_alarms(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(device): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Alarm>>, ApiError> {
    let (state, _) = view(&app, None, false).await?;
    read::require_of(&app, &rights, &state, &Subject::Device(device.clone())).await?;
    let list = List {
        list: move |state: &View, after: Option<&u64>, limit| {
            events::alarms(state, &device, after.copied(), limit)
        },
        place: |item: &Alarm| item.alarm.sequence,
        cursor: |item: &Alarm| item.alarm.sequence.to_string(),
        kind: Kind::Device,
        record: |alarm| Record::DeviceNamed(&alarm.alarm.device),
    };
    read::page(&app, &query, &rights, list).await
}

/// One alarm, named by its device and the event that raised it, while it is active or not
/// acknowledged. A closed one is in its history.
#[utoipa::path(get, path = "/v1/alarms/{device}/{sequence}", tag = "events",
    params(("device" = Id, Path), ("sequence" = u64, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<Alarm>), (status = 404, body = Problem)))]
async fn alarm(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path((device, sequence)): Path<(Id, u64)>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<Alarm>>, ApiError> {
    let alarm = alarm_id(device, sequence)?;
    let key = events::keys::alarm(&alarm);
    let subject = Some(Subject::Alarm(alarm));
    let read = Read {
        key: &key,
        kind: Kind::Device,
        what: "such open alarm; a closed one is in its history",
        subject,
    };
    read::record(&app, &query, &rights, read, |alarm: &Alarm| {
        Record::DeviceNamed(&alarm.alarm.device)
    })
    .await
}

/// The history of an alarm, newest first: who raised, acknowledged and cleared it, and when. At
/// most 100 at a time.
#[utoipa::path(get, path = "/v1/alarms/{device}/{sequence}/history", tag = "events",
    params(("device" = Id, Path), ("sequence" = u64, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn alarm_history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path((device, sequence)): Path<(Id, u64)>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
    let alarm = alarm_id(device, sequence)?;
    read::history(&app, &query, &rights, Subject::Alarm(alarm)).await
}
