//! `/v1/rollouts` and `/v1/deployments`.

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::rollouts;
use lamplighter_state::View;
use lamplighter_state::tables::Subject;
use lamplighter_types::wire::{HistoryEntry, Page, RecordResponse};
use lamplighter_types::{
    Deployment, GroupedPlan, Id, InstallRecord, InstallRules, Rollout, RolloutGroups,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem};
use super::extract::{Path, Query};
use super::read::{self, JsonAt, List, PageQuery, Read, ReadQuery, view};
use crate::rights::{Kind, Record, Rights};
use crate::search::Search;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(rollout))
        .routes(routes!(rollouts_list))
        .routes(routes!(rollout_plan))
        .routes(routes!(rollout_groups))
        .routes(routes!(rollout_rules))
        .routes(routes!(deployment_consent))
        .routes(routes!(rollout_history))
        .routes(routes!(deployments))
        .routes(routes!(deployment))
        .routes(routes!(of_device))
}

/// A rollout with its counts.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}", tag = "rollouts",
    params(("rollout" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<Rollout>), (status = 404, body = Problem)))]
async fn rollout(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<Rollout>>, ApiError> {
    let key = rollouts::keys::rollout(&id);
    let what = format!("rollout {id}");
    let read = Read {
        key: &key,
        kind: Kind::Rollout,
        what,
        subject: Some(Subject::Rollout(id)),
    };
    read::record(&app, &query, &rights, read, |rollout| {
        Record::Rollout(rollout)
    })
    .await
}

/// The plan of a rollout in groups. Its digest is the `plan_digest` of the rollout.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}/plan", tag = "rollouts",
    params(("rollout" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<GroupedPlan>), (status = 404, body = Problem)))]
async fn rollout_plan(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<GroupedPlan>>, ApiError> {
    let key = rollouts::keys::grouped_plan(&id);
    let what = format!("plan in groups of the rollout {id}");
    let read = Read {
        key: &key,
        kind: Kind::Rollout,
        what,
        subject: Some(Subject::Rollout(id)),
    };
    read::record(&app, &query, &rights, read, |plan: &GroupedPlan| {
        Record::RolloutNamed(&plan.base.rollout)
    })
    .await
}

/// The groups of a rollout: which have opened, their counts, and what they wait for.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}/groups", tag = "rollouts",
    params(("rollout" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<RolloutGroups>),
        (status = 404, body = Problem)))]
async fn rollout_groups(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<RolloutGroups>>, ApiError> {
    let key = rollouts::keys::groups(&id);
    let what = format!("record of groups of the rollout {id}");
    let read = Read {
        key: &key,
        kind: Kind::Rollout,
        what,
        subject: Some(Subject::Rollout(id)),
    };
    read::record(&app, &query, &rights, read, |groups: &RolloutGroups| {
        Record::RolloutNamed(&groups.rollout)
    })
    .await
}

/// The guards of the plan of a rollout: its windows, and who is asked for consent. They are part of
/// what `plan_digest` is the digest of.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}/rules", tag = "rollouts",
    params(("rollout" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<InstallRules>),
        (status = 404, body = Problem)))]
async fn rollout_rules(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<InstallRules>>, ApiError> {
    let key = rollouts::keys::install_rules(&id);
    let what = format!("guards of the plan of the rollout {id}");
    let read = Read {
        key: &key,
        kind: Kind::Rollout,
        what,
        subject: Some(Subject::Rollout(id.clone())),
    };
    read::record_of(&app, &query, &rights, read, Subject::Rollout(id)).await
}

/// The consent to one device's installation: who gave it and until when, and how often it was
/// given, withdrawn and refused. The steps of the deployment have each decision with its reason.
#[utoipa::path(get, path = "/v1/deployments/{rollout}/{device}/consent", tag = "rollouts",
    params(("rollout" = Id, Path), ("device" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<InstallRecord>),
        (status = 404, body = Problem)))]
async fn deployment_consent(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path((rollout, device)): Path<(Id, Id)>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<InstallRecord>>, ApiError> {
    let key = rollouts::keys::install_record(&rollout, &device);
    let what = format!("record of consent of {rollout} for {device}");
    let read = Read {
        key: &key,
        kind: Kind::Device,
        what,
        subject: None,
    };
    read::record(&app, &query, &rights, read, |record: &InstallRecord| {
        Record::DeviceNamed(&record.device)
    })
    .await
}

/// Rollouts by id.
#[utoipa::path(get, path = "/v1/rollouts", tag = "rollouts", params(PageQuery),
    responses((status = 200, body = Page<Rollout>)))]
async fn rollouts_list(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Rollout>>, ApiError> {
    let list = List {
        list: |state: &View, after: Option<&Id>, limit| rollouts::rollouts(state, after, limit),
        place: |item: &Rollout| item.plan.rollout.clone(),
        cursor: |item: &Rollout| item.plan.rollout.to_string(),
        kind: Kind::Rollout,
        record: |rollout| Record::Rollout(rollout),
    };
    read::page(&app, &query, &rights, list).await
}

/// The history of a rollout, newest first: who planned, approved, started, paused, resumed or
/// cancelled it, when and why. The moves of its deployments are in the history of the devices. At
/// most 100 at a time.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}/history", tag = "rollouts",
    params(("rollout" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn rollout_history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
    read::history(&app, &query, &rights, Subject::Rollout(id)).await
}

/// The deployments of a rollout by device.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}/deployments", tag = "rollouts",
    params(("rollout" = Id, Path), PageQuery),
    responses((status = 200, body = Page<Deployment>)))]
async fn deployments(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Deployment>>, ApiError> {
    if !rights.reads_all_devices() {
        return deployments_in_scope(&app, &query, rights, id).await;
    }
    let list = List {
        list: move |state: &View, after: Option<&Id>, limit| {
            rollouts::deployments(state, &id, after, limit)
        },
        place: |item: &Deployment| item.device.clone(),
        cursor: |item: &Deployment| item.device.to_string(),
        kind: Kind::Device,
        record: |deployment| Record::DeviceNamed(&deployment.device),
    };
    read::page(&app, &query, &rights, list).await
}

/// The deployments of the devices that the account may read: only these devices are looked at.
async fn deployments_in_scope(
    app: &App,
    query: &PageQuery,
    rights: Rights,
    rollout: Id,
) -> Result<JsonAt<Page<Deployment>>, ApiError> {
    let (after, limit) = (query.after::<Id>()?, query.limit());
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let read = move || {
        let rights = rights.at(&state);
        let search = Search::for_all(&state, &rights, head.timestamp_ms);
        let found = search.records(after.as_ref(), limit, |devices| {
            let found = rollouts::deployments_to(&state, &rollout, devices)?;
            Ok(found.into_iter().map(Vec::from_iter).collect())
        })?;
        let page = Page {
            items: found.items,
            next: found.next.map(|next| next.to_string()),
        };
        JsonAt::new(head.height, &page)
    };
    read::off_thread(app, read).await
}

/// One device's part in a rollout.
#[utoipa::path(get, path = "/v1/deployments/{rollout}/{device}", tag = "rollouts",
    params(("rollout" = Id, Path), ("device" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<Deployment>), (status = 404, body = Problem)))]
async fn deployment(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path((rollout, device)): Path<(Id, Id)>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<Deployment>>, ApiError> {
    let key = rollouts::keys::deployment(&rollout, &device);
    let what = format!("deployment of {rollout} to {device}");
    let read = Read {
        key: &key,
        kind: Kind::Device,
        what,
        subject: None,
    };
    read::record(&app, &query, &rights, read, |deployment: &Deployment| {
        Record::DeviceNamed(&deployment.device)
    })
    .await
}

/// The deployments of a device, oldest first.
#[utoipa::path(get, path = "/v1/devices/{device}/deployments", tag = "rollouts",
    params(("device" = Id, Path), PageQuery),
    responses((status = 200, body = Page<Deployment>)))]
async fn of_device(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Deployment>>, ApiError> {
    let (state, _) = view(&app, None, false).await?;
    read::require_of(&app, &rights, &state, &Subject::Device(id.clone())).await?;
    let list = List {
        list: move |state: &View, after: Option<&Id>, limit| {
            rollouts::deployments_of_device(state, &id, after, limit)
        },
        place: |item: &Deployment| item.rollout.clone(),
        cursor: |item: &Deployment| item.rollout.to_string(),
        kind: Kind::Device,
        record: |deployment| Record::DeviceNamed(&deployment.device),
    };
    read::page(&app, &query, &rights, list).await
}
