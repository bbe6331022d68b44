//! `/v1/firmware`: releases.

use axum::extract::State;
use lamplighter_contracts::firmware;
use lamplighter_state::tables::Subject;
use lamplighter_types::wire::{HistoryEntry, Page, RecordResponse};
use lamplighter_types::{Id, Release};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem};
use super::extract::{Path, Query};
use super::read::{self, AtHeight, PageQuery, ReadQuery};

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
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<AtHeight<RecordResponse<Release>>, ApiError> {
    let key = firmware::keys::release(&id);
    let what = format!("release {id}");
    read::record(&app, &query, &key, what, Some(Subject::Release(id))).await
}

/// Releases by id.
#[utoipa::path(get, path = "/v1/firmware", tag = "firmware", params(PageQuery),
    responses((status = 200, body = Page<Release>)))]
async fn releases(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<AtHeight<Page<Release>>, ApiError> {
    let cursor = |release: &Release| release.manifest.release.to_string();
    read::page(&app, &query, firmware::releases, cursor).await
}

/// The history of a release, newest first: who published, approved, deprecated or revoked it, and
/// when. At most 100 at a time.
#[utoipa::path(get, path = "/v1/firmware/{release}/history", tag = "firmware",
    params(("release" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn release_history(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<AtHeight<Page<HistoryEntry>>, ApiError> {
    read::history(&app, &query, Subject::Release(id)).await
}
