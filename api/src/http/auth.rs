//! `/v1/auth`: a token, by a signature; and what a token opens here.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use lamplighter_contracts::users;
use lamplighter_types::login::{Audience, Challenge, ChallengeRequest, Token, TokenRequest};
use lamplighter_types::{Id, PublicKey};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::Input;
use super::problem::Problem;
use crate::token::{Bearer, TOKEN_MS};

/// How often a stream asks whether its token is still good.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(challenge))
        .routes(routes!(token))
}

/// Gives a challenge to sign: `"lamplighter/token/2\0" || chain_id || node (u64, little-endian) ||
/// account || 0x00 || audience || 0x00 || challenge`.
#[utoipa::path(post, path = "/v1/auth/challenge", tag = "auth", request_body = ChallengeRequest,
    responses((status = 200, body = Challenge)))]
async fn challenge(
    State(app): State<App>,
    Input(asked): Input<ChallengeRequest>,
) -> Json<Challenge> {
    Json(
        app.tokens
            .challenge(&asked.account, &asked.key, app.now_ms()),
    )
}

/// Gives a token for a signed challenge. With the audience `http-read` it is for
/// `Authorization: Bearer`, with `mqtt` it is the password of an MQTT connection; never both.
#[utoipa::path(post, path = "/v1/auth/token", tag = "auth", request_body = TokenRequest,
    responses((status = 200, body = Token), (status = 401, body = Problem)))]
async fn token(
    State(app): State<App>,
    Input(answer): Input<TokenRequest>,
) -> Result<Json<Token>, Problem> {
    let now_ms = app.now_ms();
    let refuse = |detail: String| Problem::new(StatusCode::UNAUTHORIZED, "auth.refused", detail);
    app.tokens
        .check_answer(&answer, now_ms)
        .map_err(|e| refuse(e.to_string()))?;
    let TokenRequest {
        account,
        key,
        audience,
        challenge: _,
        signature: _,
    } = answer;
    if !is_key_of(&app, &account, &key)? {
        return Err(refuse(format!(
            "the key is not a registered key of {account}"
        )));
    }
    let token = app.tokens.issue(account, key, audience, now_ms);
    Ok(Json(Token {
        token,
        expires_ms: now_ms + TOKEN_MS,
    }))
}

/// Whether the key is in use by an account that is not disabled.
fn is_key_of(app: &App, account: &Id, key: &PublicKey) -> Result<bool, Problem> {
    let (view, _) = app.handle.view()?;
    let owner = users::account_of_key(&view, key)?;
    Ok(owner.is_some_and(|o| o.account == *account && !o.disabled))
}

/// Demands a token for what lies behind, unless the node is configured to be open.
pub async fn guard(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if app.read_needs_token {
        let value = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok());
        let token = value
            .and_then(|v| v.strip_prefix("Bearer "))
            .ok_or_else(|| {
                let detail = "reading needs a token: POST /v1/auth/challenge, then /v1/auth/token";
                Problem::new(StatusCode::UNAUTHORIZED, "auth.missing", detail)
            })?;
        let bearer = app
            .tokens
            .check(token, Audience::HttpRead, app.now_ms())
            .map_err(|e| Problem::new(StatusCode::UNAUTHORIZED, "auth.refused", e.to_string()))?;
        if !is_key_of(&app, &bearer.account, &bearer.key)? {
            let detail = "the key of this token is no longer registered";
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "auth.refused",
                detail,
            ));
        }
        request.extensions_mut().insert(bearer);
    }
    Ok(next.run(request).await)
}

/// Resolves when an answer that goes on and on has to end: its token has expired, or the key is no
/// longer the account's. Never, where reading needs no token.
pub async fn ended(app: App, bearer: Option<Bearer>) {
    let Some(bearer) = bearer else {
        return std::future::pending().await;
    };
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        every.tick().await;
        let good = is_key_of(&app, &bearer.account, &bearer.key);
        // A node that can't read its state says so elsewhere; the token's end still counts.
        if bearer.expires_ms <= app.now_ms() || matches!(good, Ok(false)) {
            return;
        }
    }
}
