//! `/v1/alarms` and `/v1/config`; the events of a device are with the device.

use axum::extract::State;
use lamplighter_contracts::{config, events};
use lamplighter_state::tables::Subject;
use lamplighter_types::record::DesiredConfig;
use lamplighter_types::{Alarm, AlarmId, ConfigTarget, Id, Scope};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::read::{self, At, HistoryEntry, One, Page, PageQuery, ReadQuery, one, parse, view};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(open_alarms))
        .routes(routes!(device_alarms))
        .routes(routes!(alarm))
        .routes(routes!(alarm_history))
        .routes(routes!(desired))
        .routes(routes!(desired_history))
}

/// Alarms that are active or not acknowledged, by device.
#[utoipa::path(get, path = "/v1/alarms", tag = "events", params(PageQuery),
    responses((status = 200, body = Page<Alarm>)))]
async fn open_alarms(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Alarm>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let after = query.after.as_deref().map(alarm_id).transpose()?;
    let items = events::open_alarms(&state, after.as_ref(), query.limit())?;
    let name = |a: &Alarm| format!("{}:{}", a.alarm.device, a.alarm.sequence);
    Ok(At {
        height: head.height,
        body: Page::new(items, query.limit(), name),
    })
}

fn alarm_id(text: &str) -> Result<AlarmId, Problem> {
    let (device, sequence) = text
        .rsplit_once(':')
        .ok_or_else(|| Problem::invalid("parameter", "an alarm cursor is device:sequence"))?;
    Ok(AlarmId {
        device: parse(device)?,
        sequence: parse(sequence)?,
    })
}

/// All alarms of a device, oldest first.
#[utoipa::path(get, path = "/v1/devices/{device}/alarms", tag = "events",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<Alarm>)))]
async fn device_alarms(
    State(app): State<App>,
    Path(device): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Alarm>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let items = events::alarms(&state, &device, query.after::<u64>()?, query.limit())?;
    let body = Page::new(items, query.limit(), |a| a.alarm.sequence.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}

/// One alarm, named by its device and the event that raised it.
#[utoipa::path(get, path = "/v1/alarms/{device}/{sequence}", tag = "events",
    params(("device" = Id, Path), ("sequence" = u64, Path), ReadQuery),
    responses((status = 200, body = One<Alarm>), (status = 404, body = Problem)))]
async fn alarm(
    State(app): State<App>,
    Path((device, sequence)): Path<(Id, u64)>,
    Query(query): Query<ReadQuery>,
) -> Result<At<One<Alarm>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let name = AlarmId { device, sequence };
    let found = events::alarm(&state, &name)?;
    let key = events::keys::alarm(&name);
    let found = one(&app, &query, head, found, "such alarm", key.as_bytes()).await?;
    found.with_change(&state, &Subject::Alarm(name))
}

/// Who raised, acknowledged and cleared an alarm, and when, newest first. At most 100 at a time.
#[utoipa::path(get, path = "/v1/alarms/{device}/{sequence}/history", tag = "events",
    params(("device" = Id, Path), ("sequence" = u64, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn alarm_history(
    State(app): State<App>,
    Path((device, sequence)): Path<(Id, u64)>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    let alarm = AlarmId { device, sequence };
    read::history(&app, &query, Subject::Alarm(alarm)).await
}

/// The target of a desired document: none of these is the whole fleet.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TargetQuery {
    model: Option<String>,
    district: Option<Scope>,
    device: Option<Id>,
    min_height: Option<u64>,
    #[serde(default)]
    linearizable: bool,
    #[serde(default)]
    proof: bool,
}

fn target(
    model: Option<String>,
    district: Option<Scope>,
    device: Option<Id>,
) -> Result<ConfigTarget, Problem> {
    match (model, district, device) {
        (None, None, None) => Ok(ConfigTarget::Fleet),
        (Some(model), None, None) => Ok(ConfigTarget::Model { model }),
        (None, Some(district), None) => Ok(ConfigTarget::District { district }),
        (None, None, Some(device)) => Ok(ConfigTarget::Device { device }),
        _ => Err(Problem::invalid(
            "parameter",
            "give one of model, district, device",
        )),
    }
}

/// The desired document of one target.
#[utoipa::path(get, path = "/v1/config", tag = "config", params(TargetQuery),
    responses((status = 200, body = One<DesiredConfig>), (status = 404, body = Problem)))]
async fn desired(
    State(app): State<App>,
    Query(query): Query<TargetQuery>,
) -> Result<At<One<DesiredConfig>>, Problem> {
    let TargetQuery {
        model,
        district,
        device,
        min_height,
        linearizable,
        proof,
    } = query;
    let target = target(model, district, device)?;
    let (state, head) = view(&app, min_height, linearizable).await?;
    let found = config::desired(&state, &target)?;
    let key = config::keys::desired(&target);
    let read = ReadQuery {
        min_height,
        linearizable,
        proof,
    };
    let found = one(
        &app,
        &read,
        head,
        found,
        "document for this target",
        key.as_bytes(),
    )
    .await?;
    found.with_change(&state, &Subject::Config(target))
}

/// The target of a desired document, and a part of its history.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TargetPageQuery {
    model: Option<String>,
    district: Option<Scope>,
    device: Option<Id>,
    min_height: Option<u64>,
    #[serde(default)]
    linearizable: bool,
    /// The `next` of the page before.
    after: Option<String>,
    /// 100 if absent; others are taken as the nearest of these.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// Who set the desired document of one target, and when, newest first. None of `model`, `district`,
/// `device` is the whole fleet.
#[utoipa::path(get, path = "/v1/config/history", tag = "config", params(TargetPageQuery),
    responses((status = 200, body = Page<HistoryEntry>), (status = 400, body = Problem)))]
async fn desired_history(
    State(app): State<App>,
    Query(query): Query<TargetPageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    let TargetPageQuery {
        model,
        district,
        device,
        min_height,
        linearizable,
        after,
        limit,
    } = query;
    let target = target(model, district, device)?;
    let page = PageQuery {
        min_height,
        linearizable,
        after,
        limit,
    };
    read::history(&app, &page, Subject::Config(target)).await
}
