//! `/v1/rollouts` and `/v1/deployments`.

use axum::extract::State;
use lamplighter_contracts::rollouts;
use lamplighter_state::tables::Subject;
use lamplighter_types::{Deployment, Id, Rollout};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::read::{self, At, HistoryEntry, One, Page, PageQuery, ReadQuery, one, view};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(rollout))
        .routes(routes!(rollouts_list))
        .routes(routes!(rollout_history))
        .routes(routes!(deployments))
        .routes(routes!(deployment))
        .routes(routes!(of_device))
}

/// A rollout with its counts.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}", tag = "rollouts",
    params(("rollout" = Id, Path), ReadQuery),
    responses((status = 200, body = One<Rollout>), (status = 404, body = Problem)))]
async fn rollout(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<At<One<Rollout>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let found = rollouts::rollout(&state, &id)?;
    let key = rollouts::keys::rollout(&id);
    let found = one(
        &app,
        &query,
        head,
        found,
        format!("rollout {id}"),
        key.as_bytes(),
    )
    .await?;
    found.with_change(&state, &Subject::Rollout(id))
}

/// Rollouts by id.
#[utoipa::path(get, path = "/v1/rollouts", tag = "rollouts", params(PageQuery),
    responses((status = 200, body = Page<Rollout>)))]
async fn rollouts_list(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Rollout>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let items = rollouts::rollouts(&state, query.after::<Id>()?.as_ref(), query.limit())?;
    let body = Page::new(items, query.limit(), |r| r.plan.rollout.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}

/// Who planned, approved, started, paused, resumed or cancelled a rollout, when and why, newest
/// first. The moves of its deployments are in the history of the devices. At most 100 at a time.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}/history", tag = "rollouts",
    params(("rollout" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn rollout_history(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    read::history(&app, &query, Subject::Rollout(id)).await
}

/// The deployments of a rollout by device.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}/deployments", tag = "rollouts",
    params(("rollout" = Id, Path), PageQuery),
    responses((status = 200, body = Page<Deployment>)))]
async fn deployments(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Deployment>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let after = query.after::<Id>()?;
    let items = rollouts::deployments(&state, &id, after.as_ref(), query.limit())?;
    let body = Page::new(items, query.limit(), |d| d.device.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}

/// One device's part in a rollout.
#[utoipa::path(get, path = "/v1/deployments/{rollout}/{device}", tag = "rollouts",
    params(("rollout" = Id, Path), ("device" = Id, Path), ReadQuery),
    responses((status = 200, body = One<Deployment>), (status = 404, body = Problem)))]
async fn deployment(
    State(app): State<App>,
    Path((rollout, device)): Path<(Id, Id)>,
    Query(query): Query<ReadQuery>,
) -> Result<At<One<Deployment>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let found = rollouts::deployment(&state, &rollout, &device)?;
    let key = rollouts::keys::deployment(&rollout, &device);
    let what = format!("deployment of {rollout} to {device}");
    one(&app, &query, head, found, what, key.as_bytes()).await
}

/// The deployments of a device, oldest first.
#[utoipa::path(get, path = "/v1/devices/{device}/deployments", tag = "rollouts",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<Deployment>)))]
async fn of_device(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Deployment>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let after = query.after::<Id>()?;
    let found = rollouts::deployments_of_device(&state, &id, after.as_ref(), query.limit())?;
    let body = Page::new(found, query.limit(), |d| d.rollout.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}
