//! `/v1/users`, `/v1/organizations`, `/v1/keys`, `/v1/policies`, `/v1/nodes`, `/v1/proposals`.

use axum::Extension;
use axum::extract::State;
use lamplighter_contracts::{governance, users};
use lamplighter_state::View;
use lamplighter_state::tables::Subject;
use lamplighter_types::record::{Observer, Organization, Policies, Proposal};
use lamplighter_types::wire::{
    HistoryEntry, KeyInfo, NodeList, Page, ProposalStanding, RecordResponse,
};
use lamplighter_types::{Account, Id, PublicKey, Validator};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem};
use super::extract::{Path, Query};
use super::read::{
    self, AtHeight, JsonAt, List, PageQuery, Read, ReadQuery, ViewQuery, off_thread, view,
};
use crate::rights::{Kind, Record, Rights};

/// Routes for clients that have no token yet.
pub fn open_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(key))
        .routes(routes!(nodes))
}

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(account))
        .routes(routes!(accounts))
        .routes(routes!(account_history))
        .routes(routes!(organization))
        .routes(routes!(organizations))
        .routes(routes!(organization_history))
        .routes(routes!(policies))
        .routes(routes!(proposals))
        .routes(routes!(proposal))
        .routes(routes!(proposal_history))
        .routes(routes!(governance_history))
}

/// An account: a user, a gateway or a node.
#[utoipa::path(get, path = "/v1/users/{account}", tag = "users",
    params(("account" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<Account>), (status = 404, body = Problem)))]
async fn account(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<Account>>, ApiError> {
    let key = users::keys::account(&id);
    let what = format!("account {id}");
    let read = Read {
        key: &key,
        kind: Kind::Account,
        what,
        subject: Some(Subject::Account(id)),
    };
    read::record(&app, &query, &rights, read, |account| {
        Record::Account(account)
    })
    .await
}

/// Accounts by id.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(PageQuery),
    responses((status = 200, body = Page<Account>)))]
async fn accounts(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Account>>, ApiError> {
    let list = List {
        list: |state: &View, after: Option<&Id>, limit| users::accounts(state, after, limit),
        place: |item: &Account| item.account.clone(),
        cursor: |item: &Account| item.account.to_string(),
        kind: Kind::Account,
        record: |account| Record::Account(account),
    };
    read::page(&app, &query, &rights, list).await
}

/// The history of an account, newest first: who registered it, changed its roles and keys, disabled
/// or enabled it, and when. At most 100 at a time.
#[utoipa::path(get, path = "/v1/users/{account}/history", tag = "users",
    params(("account" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn account_history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
    read::history(&app, &query, &rights, Subject::Account(id)).await
}

/// An organization.
#[utoipa::path(get, path = "/v1/organizations/{organization}", tag = "users",
    params(("organization" = Id, Path), ReadQuery),
    responses((status = 200, body = RecordResponse<Organization>), (status = 404, body = Problem)))]
async fn organization(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<JsonAt<RecordResponse<Organization>>, ApiError> {
    let key = users::keys::organization(&id);
    let what = format!("organization {id}");
    let read = Read {
        key: &key,
        kind: Kind::Common,
        what,
        subject: Some(Subject::Organization(id)),
    };
    read::record(&app, &query, &rights, read, |_| Record::Common).await
}

/// The history of an organization, newest first: who registered it and linked registrants to it,
/// and when. At most 100 at a time.
#[utoipa::path(get, path = "/v1/organizations/{organization}/history", tag = "users",
    params(("organization" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn organization_history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
    read::history(&app, &query, &rights, Subject::Organization(id)).await
}

/// Organizations by id.
#[utoipa::path(get, path = "/v1/organizations", tag = "users", params(PageQuery),
    responses((status = 200, body = Page<Organization>)))]
async fn organizations(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Organization>>, ApiError> {
    let list = List {
        list: |state: &View, after: Option<&Id>, limit| users::organizations(state, after, limit),
        place: |item: &Organization| item.organization.clone(),
        cursor: |item: &Organization| item.organization.to_string(),
        kind: Kind::Common,
        record: |_| Record::Common,
    };
    read::page(&app, &query, &rights, list).await
}

/// The account of a key, and the highest sequence number that the key has used. Open to everybody:
/// a client that lost its counter asks here.
#[utoipa::path(get, path = "/v1/keys/{key}", tag = "users", params(("key" = PublicKey, Path)),
    responses((status = 200, body = KeyInfo), (status = 404, body = Problem)))]
async fn key(
    State(app): State<App>,
    Path(key): Path<PublicKey>,
) -> Result<AtHeight<KeyInfo>, ApiError> {
    let (state, head) = view(&app, None, false).await?;
    let account = users::account_of_key(&state, &key)?
        .ok_or_else(|| ApiError::not_found(format!("account with the key {key}")))?;
    let highest_sequence = users::replay_window(&state, &key)?.highest();
    let body = KeyInfo {
        account: account.account,
        highest_sequence,
    };
    Ok(AtHeight {
        height: head.height,
        body,
    })
}

/// The number of approvals that changes need.
#[utoipa::path(get, path = "/v1/policies", tag = "governance",
    responses((status = 200, body = Policies)))]
async fn policies(State(app): State<App>) -> Result<AtHeight<Policies>, ApiError> {
    let (state, head) = view(&app, None, false).await?;
    Ok(AtHeight {
        height: head.height,
        body: governance::policies(&state)?,
    })
}

/// The lowest id above all ids in use that no node ever had.
fn next_node(
    state: &View,
    validators: &[Validator],
    observers: &[Observer],
) -> Result<u64, ApiError> {
    let validators = validators.iter().map(|v| v.node);
    let used = validators.chain(observers.iter().map(|o| o.node));
    let mut next = used.max().unwrap_or(0).saturating_add(1);
    // The id of a removed node is never used again; in practice there are few.
    while governance::used_node(state, next)?.is_some() {
        next = next.saturating_add(1);
    }
    Ok(next)
}

fn node_list(state: &View) -> Result<NodeList, ApiError> {
    let set = governance::validator_set(state)?;
    let observers = governance::observers(state)?;
    Ok(NodeList {
        quorum: set.quorum(),
        next_node: next_node(state, &set.validators, &observers)?,
        validators: set.validators,
        observers,
    })
}

/// Validators and observers, and the id for the next one. Open to everybody: a node that is about
/// to join asks here.
#[utoipa::path(get, path = "/v1/nodes", tag = "governance",
    responses((status = 200, body = NodeList)))]
async fn nodes(State(app): State<App>) -> Result<AtHeight<NodeList>, ApiError> {
    let (state, head) = view(&app, None, false).await?;
    let body = off_thread(&app, move || node_list(&state)).await?;
    Ok(AtHeight {
        height: head.height,
        body,
    })
}

/// Governance proposals by id.
#[utoipa::path(get, path = "/v1/proposals", tag = "governance", params(PageQuery),
    responses((status = 200, body = Page<Proposal>)))]
async fn proposals(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<Proposal>>, ApiError> {
    let list = List {
        list: |state: &View, after: Option<&Id>, limit| governance::proposals(state, after, limit),
        place: |item: &Proposal| item.proposal.clone(),
        cursor: |item: &Proposal| item.proposal.to_string(),
        kind: Kind::Governance,
        record: |_| Record::Governance,
    };
    read::page(&app, &query, &rights, list).await
}

/// An open proposal with what it still lacks: how many approvals, from whom they may come, and
/// which do not count, or not yet.
#[utoipa::path(get, path = "/v1/proposals/{proposal}", tag = "governance",
    params(("proposal" = Id, Path), ViewQuery),
    responses((status = 200, body = ProposalStanding), (status = 404, body = Problem)))]
async fn proposal(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<ViewQuery>,
) -> Result<AtHeight<ProposalStanding>, ApiError> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    read::require(&rights, &state, &Record::Governance)?;
    let missing = format!("proposal {id}");
    let read = move || {
        let found = governance::proposal(&state, &id)?;
        let standing = |found| governance::standing(&state, found, head.timestamp_ms);
        found.map(standing).transpose()
    };
    let found = off_thread(&app, read).await?;
    Ok(AtHeight {
        height: head.height,
        body: found.ok_or_else(|| ApiError::not_found(missing))?,
    })
}

/// The history of a proposal, newest first: who made it and who approved it, and when. At most 100
/// at a time.
#[utoipa::path(get, path = "/v1/proposals/{proposal}/history", tag = "governance",
    params(("proposal" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn proposal_history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
    read::history(&app, &query, &rights, Subject::Proposal(id)).await
}

/// The changes of the ledger itself, newest first: its nodes, policies and protocol. The author is
/// the account that gave the last approval that a proposal needed. At most 100 at a time.
#[utoipa::path(get, path = "/v1/governance/history", tag = "governance", params(PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn governance_history(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<PageQuery>,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
    read::history(&app, &query, &rights, Subject::Governance).await
}
