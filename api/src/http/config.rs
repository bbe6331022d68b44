//! `/v1/config`: desired configuration documents. The configuration of a device is with the
//! device.

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::config;
use lamplighter_state::tables::Subject;
use lamplighter_types::record::DesiredConfig;
use lamplighter_types::wire::{HistoryEntry, Page, RecordResponse};
use lamplighter_types::{ConfigTarget, Id, Scope};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::Query;
use super::read::{self, JsonAt, PageQuery, Read, ReadQuery};
use crate::rights::{Kind, Rights};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(desired))
        .routes(routes!(desired_history))
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
    /// The height of the validators that the verifier of the proof trusts; 0, the genesis file, if
    /// absent.
    #[serde(default)]
    trusted: u64,
}

fn target(
    model: Option<String>,
    district: Option<Scope>,
    device: Option<Id>,
) -> Result<ConfigTarget, ApiError> {
    match (model, district, device) {
        (None, None, None) => Ok(ConfigTarget::Fleet),
        (Some(model), None, None) => Ok(ConfigTarget::Model { model }),
        (None, Some(district), None) => Ok(ConfigTarget::District { district }),
        (None, None, Some(device)) => Ok(ConfigTarget::Device { device }),
        _ => {
            let detail = "give one of model, district, device";
            Err(ApiError::invalid(code::PARAMETER, detail))
        }
    }
}

/// The desired document of one target.
#[utoipa::path(get, path = "/v1/config", tag = "config", params(TargetQuery),
    responses((status = 200, body = RecordResponse<DesiredConfig>),
        (status = 404, body = Problem)))]
async fn desired(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<TargetQuery>,
) -> Result<JsonAt<RecordResponse<DesiredConfig>>, ApiError> {
    let TargetQuery {
        model,
        district,
        device,
        min_height,
        linearizable,
        proof,
        trusted,
    } = query;
    let target = target(model, district, device)?;
    let key = config::keys::desired(&target);
    let query = ReadQuery {
        min_height,
        linearizable,
        proof,
        trusted,
    };
    let what = "document for this target";
    let read = Read {
        key: &key,
        kind: Kind::Config,
        what,
        subject: Some(Subject::Config(target.clone())),
    };
    read::record_of(&app, &query, &rights, read, Subject::Config(target)).await
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
    /// 100 if absent. 0 is taken as 1, and a number above 100 as 100.
    #[param(value_type = Option<u64>)]
    #[serde(default, deserialize_with = "read::read_limit")]
    limit: Option<usize>,
}

/// The history of the desired document of one target, newest first: who set it, and when. None of
/// `model`, `district`, `device` is the whole fleet.
#[utoipa::path(get, path = "/v1/config/history", tag = "config", params(TargetPageQuery),
    responses((status = 200, body = Page<HistoryEntry>), (status = 400, body = Problem)))]
async fn desired_history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<TargetPageQuery>,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
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
    read::history(&app, &page, &rights, Subject::Config(target)).await
}
