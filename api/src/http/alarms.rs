//! `/v1/alarms`. The events of a device are with the device.

use axum::extract::State;
use lamplighter_contracts::events;
use lamplighter_state::tables::Subject;
use lamplighter_types::wire::{HistoryEntry, Page, RecordResponse};
use lamplighter_types::{Alarm, AlarmId, Id};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::{Path, Query};
use super::read::{self, AtHeight, PageQuery, ReadQuery, parse, view};

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
    Query(query): Query<PageQuery>,
) -> Result<AtHeight<Page<Alarm>>, ApiError> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let after = query.after.as_deref().map(parse_alarm_id).transpose()?;
    let limit = query.limit();
    let list = move || events::open_alarms(&state, after.as_ref(), limit);
    let items = read::off_thread(&app, list).await?;
    let cursor = |a: &Alarm| format!("{}:{}", a.alarm.device, a.alarm.sequence);
    Ok(AtHeight {
        height: head.height,
        body: Page::new(items, query.limit(), cursor),
    })
}

fn parse_alarm_id(text: &str) -> Result<AlarmId, ApiError> {
    let malformed = || ApiError::invalid(code::PARAMETER, "an alarm cursor is device:sequence");
    let (device, sequence) = text.rsplit_once(':').ok_or_else(malformed)?;
    Ok(AlarmId {
        device: parse(device)?,
        sequence: parse(sequence)?,
    })
}

/// The open alarms of a device, oldest first. Closed ones are in the history of the device.
#[utoipa::path(get, path = "/v1/devices/{device}/alarms", tag = "events",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<Alarm>)))]
async fn device_alarms(
    State(app): State<App>,
    Path(device): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<AtHeight<Page<Alarm>>, ApiError> {
    read::page(
        &app,
        &query,
        move |state, after, limit| events::alarms(state, &device, after.copied(), limit),
        |alarm| alarm.alarm.sequence.to_string(),
    )
    .await
}

/// One alarm, named by its device and the event that raised it, while it is active or not
/// acknowledged. A closed one is in its history.
#[utoipa::path(get, path = "/v1/alarms/{device}/{sequence}", tag = "events",
    params(("device" = Id, Path), ("sequence" = u64, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<Alarm>), (status = 404, body = Problem)))]
async fn alarm(
    State(app): State<App>,
    Path((device, sequence)): Path<(Id, u64)>,
    Query(query): Query<ReadQuery>,
) -> Result<AtHeight<RecordResponse<Alarm>>, ApiError> {
    let alarm = AlarmId { device, sequence };
    let key = events::keys::alarm(&alarm);
    let subject = Some(Subject::Alarm(alarm));
    read::record(
        &app,
        &query,
        &key,
        "such open alarm; a closed one is in its history",
        subject,
    )
    .await
}

/// The history of an alarm, newest first: who raised, acknowledged and cleared it, and when. At
/// most 100 at a time.
#[utoipa::path(get, path = "/v1/alarms/{device}/{sequence}/history", tag = "events",
    params(("device" = Id, Path), ("sequence" = u64, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn alarm_history(
    State(app): State<App>,
    Path((device, sequence)): Path<(Id, u64)>,
    Query(query): Query<PageQuery>,
) -> Result<AtHeight<Page<HistoryEntry>>, ApiError> {
    let alarm = AlarmId { device, sequence };
    read::history(&app, &query, Subject::Alarm(alarm)).await
}
