//! `/v1/firmware`: releases.

use axum::extract::State;
use lamplighter_contracts::firmware;
use lamplighter_state::tables::Subject;
use lamplighter_types::{Id, Release};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::read::{self, At, HistoryEntry, One, Page, PageQuery, ReadQuery, one, view};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(release))
        .routes(routes!(releases))
        .routes(routes!(release_history))
}

/// A release with its approvals.
#[utoipa::path(get, path = "/v1/firmware/{release}", tag = "firmware",
    params(("release" = Id, Path), ReadQuery),
    responses((status = 200, body = One<Release>), (status = 404, body = Problem)))]
async fn release(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<At<One<Release>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let found = firmware::release(&state, &id)?;
    let key = firmware::keys::release(&id);
    let found = one(
        &app,
        &query,
        head,
        found,
        format!("release {id}"),
        key.as_bytes(),
    )
    .await?;
    found.with_change(&state, &Subject::Release(id))
}

/// Releases by id.
#[utoipa::path(get, path = "/v1/firmware", tag = "firmware", params(PageQuery),
    responses((status = 200, body = Page<Release>)))]
async fn releases(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Release>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let items = firmware::releases(&state, query.after::<Id>()?.as_ref(), query.limit())?;
    let body = Page::new(items, query.limit(), |r| r.manifest.release.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}

/// Who published, approved, deprecated or revoked a release, and when, newest first. At most 100
/// at a time.
#[utoipa::path(get, path = "/v1/firmware/{release}/history", tag = "firmware",
    params(("release" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn release_history(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    read::history(&app, &query, Subject::Release(id)).await
}
