//! `/v1/users`, `/v1/organizations`, `/v1/keys`, `/v1/policies`, `/v1/nodes`, `/v1/proposals`.

use axum::extract::State;
use lamplighter_contracts::{governance, users};
use lamplighter_state::tables::Subject;
use lamplighter_types::record::{Observer, Organization, Policies, Proposal};
use lamplighter_types::{Account, Id, PublicKey, Validator};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::read::{self, At, HistoryEntry, One, Page, PageQuery, ReadQuery, one, view};

/// What a client needs before it has a token.
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
        .routes(routes!(proposal_history))
        .routes(routes!(governance_history))
}

/// An account: a user, a gateway or a node.
#[utoipa::path(get, path = "/v1/users/{account}", tag = "users",
    params(("account" = Id, Path), ReadQuery),
    responses((status = 200, body = One<Account>), (status = 404, body = Problem)))]
async fn account(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<At<One<Account>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let found = users::account(&state, &id)?;
    let key = users::keys::account(&id);
    let found = one(
        &app,
        &query,
        head,
        found,
        format!("account {id}"),
        key.as_bytes(),
    )
    .await?;
    found.with_change(&state, &Subject::Account(id))
}

/// Accounts by id.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(PageQuery),
    responses((status = 200, body = Page<Account>)))]
async fn accounts(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Account>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let items = users::accounts(&state, query.after::<Id>()?.as_ref(), query.limit())?;
    let body = Page::new(items, query.limit(), |a| a.account.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}

/// Who registered an account, changed its roles and keys, disabled or enabled it, and when, newest
/// first. At most 100 at a time.
#[utoipa::path(get, path = "/v1/users/{account}/history", tag = "users",
    params(("account" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn account_history(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    read::history(&app, &query, Subject::Account(id)).await
}

/// An organization.
#[utoipa::path(get, path = "/v1/organizations/{organization}", tag = "users",
    params(("organization" = Id, Path), ReadQuery),
    responses((status = 200, body = One<Organization>), (status = 404, body = Problem)))]
async fn organization(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<ReadQuery>,
) -> Result<At<One<Organization>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let found = users::organization(&state, &id)?;
    let key = users::keys::organization(&id);
    let found = one(
        &app,
        &query,
        head,
        found,
        format!("organization {id}"),
        key.as_bytes(),
    )
    .await?;
    found.with_change(&state, &Subject::Organization(id))
}

/// Who registered an organization and linked registrants to it, and when, newest first. At most 100
/// at a time.
#[utoipa::path(get, path = "/v1/organizations/{organization}/history", tag = "users",
    params(("organization" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn organization_history(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    read::history(&app, &query, Subject::Organization(id)).await
}

/// Organizations by id.
#[utoipa::path(get, path = "/v1/organizations", tag = "users", params(PageQuery),
    responses((status = 200, body = Page<Organization>)))]
async fn organizations(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Organization>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let items = users::organizations(&state, query.after::<Id>()?.as_ref(), query.limit())?;
    let body = Page::new(items, query.limit(), |o| o.organization.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}

/// Where a key stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct KeyStanding {
    account: Id,
    /// The highest sequence number used: the next transaction takes a higher one.
    highest_sequence: u64,
}

/// Whose key it is, and the highest sequence number that it has used. Open to everybody: a client
/// that lost its counter asks here.
#[utoipa::path(get, path = "/v1/keys/{key}", tag = "users", params(("key" = PublicKey, Path)),
    responses((status = 200, body = KeyStanding), (status = 404, body = Problem)))]
async fn key(
    State(app): State<App>,
    Path(key): Path<PublicKey>,
) -> Result<At<KeyStanding>, Problem> {
    let (state, head) = view(&app, None, false).await?;
    let account = users::account_of_key(&state, &key)?
        .ok_or_else(|| Problem::not_found(format!("account with the key {key}")))?;
    let highest_sequence = users::replay_window(&state, &key)?.highest();
    let body = KeyStanding {
        account: account.account,
        highest_sequence,
    };
    Ok(At {
        height: head.height,
        body,
    })
}

/// How many people must agree.
#[utoipa::path(get, path = "/v1/policies", tag = "governance",
    responses((status = 200, body = Policies)))]
async fn policies(State(app): State<App>) -> Result<At<Policies>, Problem> {
    let (state, head) = view(&app, None, false).await?;
    Ok(At {
        height: head.height,
        body: governance::policies(&state)?,
    })
}

/// Who runs the ledger.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NodeList {
    validators: Vec<Validator>,
    observers: Vec<Observer>,
    /// Equal attestations that make a certificate.
    quorum: usize,
    /// An id that no node ever had, for the next one.
    next_node: u64,
}

/// The lowest id above those in use that was never given.
fn next_node(
    state: &lamplighter_state::View,
    validators: &[Validator],
    observers: &[Observer],
) -> Result<u64, Problem> {
    let validators = validators.iter().map(|v| v.node);
    let used = validators.chain(observers.iter().map(|o| o.node));
    let mut next = used.max().unwrap_or(0).saturating_add(1);
    // Those that went have theirs for ever; in practice there are few.
    while governance::used_node(state, next)?.is_some() {
        next = next.saturating_add(1);
    }
    Ok(next)
}

/// Validators and observers, and the id for the next one. Open to everybody: a node that is to join
/// asks here.
#[utoipa::path(get, path = "/v1/nodes", tag = "governance",
    responses((status = 200, body = NodeList)))]
async fn nodes(State(app): State<App>) -> Result<At<NodeList>, Problem> {
    let (state, head) = view(&app, None, false).await?;
    let set = governance::validator_set(&state)?;
    let observers = governance::observers(&state)?;
    let body = NodeList {
        quorum: set.quorum(),
        next_node: next_node(&state, &set.validators, &observers)?,
        validators: set.validators,
        observers,
    };
    Ok(At {
        height: head.height,
        body,
    })
}

/// Governance proposals by id.
#[utoipa::path(get, path = "/v1/proposals", tag = "governance", params(PageQuery),
    responses((status = 200, body = Page<Proposal>)))]
async fn proposals(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<Proposal>>, Problem> {
    let (state, head) = view(&app, query.min_height, query.linearizable).await?;
    let items = governance::proposals(&state, query.after::<Id>()?.as_ref(), query.limit())?;
    let body = Page::new(items, query.limit(), |p| p.proposal.to_string());
    Ok(At {
        height: head.height,
        body,
    })
}

/// Who proposed a change of the ledger and who approved it, and when, newest first. At most 100 at
/// a time.
#[utoipa::path(get, path = "/v1/proposals/{proposal}/history", tag = "governance",
    params(("proposal" = Id, Path), PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn proposal_history(
    State(app): State<App>,
    Path(id): Path<Id>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    read::history(&app, &query, Subject::Proposal(id)).await
}

/// What changed of the ledger itself, newest first: its nodes, policies and protocol. The author is
/// whose approval was the last that a proposal needed. At most 100 at a time.
#[utoipa::path(get, path = "/v1/governance/history", tag = "governance", params(PageQuery),
    responses((status = 200, body = Page<HistoryEntry>)))]
async fn governance_history(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    read::history(&app, &query, Subject::Governance).await
}
