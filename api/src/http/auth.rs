//! `/v1/auth`: tokens for signed challenges, and the check of tokens in front of other routes.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use lamplighter_contracts::users;
use lamplighter_system::unix_ms;
use lamplighter_types::login::{Audience, Challenge, ChallengeRequest, Token, TokenRequest};
use lamplighter_types::{Account, Id, PublicKey};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::JsonBody;
use super::feed::websocket;
use super::quota::PeerAddress;
use super::{quota, reader};
use crate::rights::Rights;
use crate::token::Bearer;

/// Interval at which a stream checks its token.
const CHECK_EVERY: Duration = Duration::from_secs(1);

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(challenge))
        .routes(routes!(token))
}

/// Returns a challenge to sign: `"lamplighter/token/2\0" || chain_id || node (u64, little-endian)
/// || account || 0x00 || audience || 0x00 || challenge`.
#[utoipa::path(post, path = "/v1/auth/challenge", tag = "auth", request_body = ChallengeRequest,
    responses((status = 200, body = Challenge)))]
async fn challenge(
    State(app): State<App>,
    JsonBody(request): JsonBody<ChallengeRequest>,
) -> Json<Challenge> {
    let ChallengeRequest { account, key } = request;
    Json(app.tokens.challenge(&account, &key, unix_ms()))
}

/// Returns a token for a signed challenge. With the audience `http-read` it is for
/// `Authorization: Bearer`, with `mqtt` it is the password of an MQTT connection; never both.
#[utoipa::path(post, path = "/v1/auth/token", tag = "auth", request_body = TokenRequest,
    responses((status = 200, body = Token), (status = 401, body = Problem)))]
async fn token(
    State(app): State<App>,
    peer: Option<Extension<PeerAddress>>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Json<Token>, ApiError> {
    let now_ms = unix_ms();
    app.tokens
        .check_request(&request, now_ms)
        .map_err(|e| refused(e.to_string()))?;
    let TokenRequest {
        account,
        key,
        audience,
        challenge: _,
        signature: _,
    } = request;
    if account_with_key(&app, &account, &key)?.is_none() {
        let detail = format!("the key is not a registered key of {account}");
        return Err(refused(detail));
    }
    let address = peer.map(|Extension(PeerAddress(address))| address);
    let issued = app.tokens.issue(account, key, audience, address, now_ms);
    Ok(Json(issued.map_err(|error| ApiError::internal(&error))?))
}

fn refused(detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, code::AUTH_REFUSED, detail)
}

/// The account, if the key is one of its keys in use and it is not disabled.
fn account_with_key(app: &App, account: &Id, key: &PublicKey) -> Result<Option<Account>, ApiError> {
    let (view, _) = app.handle.view()?;
    let owner = users::account_of_key(&view, key)?;
    Ok(owner.filter(|o| o.account == *account && !o.disabled))
}

/// Middleware that requires a token, unless the node is configured to be open.
pub async fn require_token(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if app.read_needs_token {
        let value = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok());
        let token = value
            .and_then(|v| v.strip_prefix("Bearer "))
            .or_else(|| websocket::offered_token(request.headers()))
            .ok_or_else(|| {
                let detail = "reading needs a token: POST /v1/auth/challenge, then /v1/auth/token";
                ApiError::new(StatusCode::UNAUTHORIZED, code::AUTH_MISSING, detail)
            })?;
        let bearer = app
            .tokens
            .check(token, Audience::HttpRead, unix_ms())
            .map_err(|e| refused(e.to_string()))?;
        return Ok(run_for(&app, bearer, request, next).await);
    }
    request.extensions_mut().insert(Rights::everything());
    Ok(reader::scope(None, next.run(request)).await)
}

/// Handles a request of an account, whose quotas count before the ledger is read.
async fn run_for(app: &App, bearer: Bearer, request: Request, next: Next) -> Response {
    let account = bearer.account.clone();
    let mut request = app.quotas.counting_upload(&account, request);
    let handle = async {
        let owner = match account_with_key(app, &bearer.account, &bearer.key) {
            Ok(Some(owner)) => owner,
            Ok(None) => {
                let detail = "the key of this token is no longer registered";
                return refused(detail).into_response();
            }
            Err(error) => return error.into_response(),
        };
        request.extensions_mut().insert(Rights::of(&owner));
        let account = Some(bearer.account.clone());
        request.extensions_mut().insert(bearer);
        reader::scope(account, next.run(request)).await
    };
    quota::of_account(app, &account, handle).await
}

/// Resolves when an endless answer has to end: its token has expired, its session was ended, the
/// key is not the account's any more, or the account may read more or less than before. Never
/// resolves where reading needs no token. The session counts it as open until it is dropped.
pub async fn revoked(app: App, bearer: Option<Bearer>, rights: Rights) {
    let Some(bearer) = bearer else {
        return std::future::pending().await;
    };
    let Some(session) = app.tokens.open(&bearer) else {
        return;
    };
    let mut interval = tokio::time::interval(CHECK_EVERY);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = session.ended() => return,
        }
        let account = account_with_key(&app, &bearer.account, &bearer.key);
        // A node that can't read its state reports it elsewhere; the token's expiry still counts.
        let is_same = account.map_or(true, |account| {
            account.is_some_and(|account| Rights::of(&account) == rights)
        });
        if bearer.expires_ms <= unix_ms() || !is_same {
            return;
        }
    }
}
