//! `/v1/firmware`: releases.

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::firmware;
use lamplighter_state::View;
use lamplighter_state::tables::Subject;
use lamplighter_types::wire::{HistoryEntry, Page, RecordResponse};
use lamplighter_types::{Id, Release};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem};
use super::extract::{Path, Query};
use super::read::{self, JsonAt, List, PageQuery, Read, ReadQuery};
use crate::rights::{Kind, Record, Rights};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(release))
        .routes(routes!(releases))
        .routes(routes!(release_history))
}

/// A release with its approvals.
#[utoipa::path(get, path = "/v1/firmware/{release}", tag = "firmware",
    params(("release" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<Release>), (status = 404, body = Problem)))]
async fn release(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<Release>>, ApiError> {
    let key = firmware::keys::release(&id);
    let what = format!("release {id}");
    let read = Read {
        key: &key,
        kind: Kind::Release,
        what,
        subject: Some(Subject::Release(id)),
    };
    read::record(&app, &query, &rights, read, |release| {
        Record::Release(release)
    })
    .await
}

/// Releases by id.
#[utoipa::path(get, path = "/v1/firmware", tag = "firmware", params(PageQuery),
    responses((status = 200, body = Page<Release>)))]
async fn releases(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Release>>, ApiError> {
    let list = List {
        list: |state: &View, after: Option<&Id>, limit| firmware::releases(state, after, limit),
        place: |item: &Release| item.manifest.release.clone(),
        cursor: |item: &Release| item.manifest.release.to_string(),
        kind: Kind::Release,
        record: |release| Record::Release(release),
    };
    read::page(&app, &query, &rights, list).await
}

/// The history of a release, newest first: who published, approved, deprecated or revoked it, and
/// when. At most 100 at a time.
#[utoipa::path(get, path = "/v1/firmware/{release}/history", tag = "firmware",
    params(("release" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn release_history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
    read::history(&app, &query, &rights, Subject::Release(id)).await
}
