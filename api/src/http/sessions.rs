//! `/v1/auth/sessions`: the logins of an account at this node, and their end.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use lamplighter_contracts::users;
use lamplighter_system::unix_ms;
use lamplighter_types::login::{EndedSessions, LoginSessions};
use lamplighter_types::{Id, Role, Scope, SessionId};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::{Path, Query};
use super::read::require;
use crate::rights::{Record, Rights};
use crate::token::Bearer;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, end_all))
        .routes(routes!(end))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct SessionQuery {
    /// Another account than that of the token.
    account: Option<Id>,
}

/// The sessions of an account at this node, oldest first: one for each token that has neither
/// expired nor been ended, and whose key is the account's. An account has 256 at most; for one more
/// the oldest ends.
#[utoipa::path(get, path = "/v1/auth/sessions", tag = "auth", params(SessionQuery),
    responses((status = 200, body = LoginSessions),
        (status = 404, description = "There is no such account.", body = Problem)))]
async fn list(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    Extension(rights): Extension<Rights>,
    Query(query): Query<SessionQuery>,
) -> Result<Json<LoginSessions>, ApiError> {
    let bearer = bearer.as_deref();
    let account = query.account.or_else(|| bearer.map(|b| b.account.clone()));
    let account = account.ok_or_else(|| {
        let detail = "this node asks for no token: name the account";
        ApiError::invalid(code::PARAMETER, detail)
    })?;
    let (view, _) = app.handle.view()?;
    require(&rights, &view, &Record::Sessions(&account))?;
    let owner = users::account(&view, &account)?.ok_or_else(|| no_account(&account))?;
    let current = bearer.map(|bearer| &bearer.session);
    let sessions = app.tokens.sessions();
    let mut items = sessions.list(&account, current, unix_ms());
    // The tokens of a revoked key and of a disabled account are refused.
    items.retain(|item| !owner.disabled && owner.keys.iter().any(|key| key.key == item.key));
    Ok(Json(LoginSessions { items }))
}

/// Ends a session: its token is refused from now on, and its streams and MQTT connection are
/// closed. Only an administrator of the whole city ends sessions of another account. A key that was
/// stolen logs in again until it is revoked.
#[utoipa::path(delete, path = "/v1/auth/sessions/{session}", tag = "auth",
    params(("session" = SessionId, Path), SessionQuery),
    responses((status = 204),
        (status = 404, description = "The account has no such session at this node.",
            body = Problem)))]
async fn end(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    Path(session): Path<SessionId>,
    Query(query): Query<SessionQuery>,
) -> Result<StatusCode, ApiError> {
    let bearer = ending(bearer.as_deref())?;
    let account = account_to_end(&app, bearer, query.account)?;
    if !app.tokens.sessions().end(&account, &session) {
        return Err(ApiError::not_found(format!("session {session}")));
    }
    tracing::info!(%account, by = %bearer.account, %session, "a session was ended");
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all sessions of an account at this node, except the one that asks for it.
#[utoipa::path(delete, path = "/v1/auth/sessions", tag = "auth", params(SessionQuery),
    responses((status = 200, body = EndedSessions),
        (status = 404, description = "There is no such account.", body = Problem)))]
async fn end_all(
    State(app): State<App>,
    bearer: Option<Extension<Bearer>>,
    Query(query): Query<SessionQuery>,
) -> Result<Json<EndedSessions>, ApiError> {
    let bearer = ending(bearer.as_deref())?;
    let account = account_to_end(&app, bearer, query.account)?;
    let sessions = app.tokens.sessions();
    let ended = sessions.end_all(&account, Some(&bearer.session)) as u64;
    tracing::info!(%account, by = %bearer.account, ended, "sessions were ended");
    Ok(Json(EndedSessions { ended }))
}

/// The token of a request that ends sessions. A node that asks for none does not know who asks.
fn ending(bearer: Option<&Bearer>) -> Result<&Bearer, ApiError> {
    bearer.ok_or_else(|| forbidden("this node asks for no token, so that it ends no sessions"))
}

/// The account whose sessions a request may end.
fn account_to_end(app: &App, bearer: &Bearer, account: Option<Id>) -> Result<Id, ApiError> {
    let Some(account) = account.filter(|account| *account != bearer.account) else {
        return Ok(bearer.account.clone());
    };
    let (view, _) = app.handle.view()?;
    let asking = users::account(&view, &bearer.account)?;
    if !asking.is_some_and(|asking| asking.has_role(Role::Administrator, &Scope::city())) {
        let detail = "only administrators of the whole city end sessions of other accounts";
        return Err(forbidden(detail));
    }
    match users::account(&view, &account)? {
        Some(_) => Ok(account),
        None => Err(no_account(&account)),
    }
}

fn no_account(account: &Id) -> ApiError {
    ApiError::not_found(format!("account {account}"))
}

fn forbidden(detail: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code::FORBIDDEN, detail)
}
