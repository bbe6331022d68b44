//! The HTTP interface, one file per resource. Writing is authenticated by the transaction's own
//! signature, reading by a token; everything is bounded in size, time and number.

mod artifacts;
mod auth;
mod blocks;
mod devices;
mod events;
mod extract;
mod feed;
mod firmware;
mod iotregistry;
mod problem;
mod read;
mod rollouts;
mod status;
mod transactions;
mod users;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router, middleware};
use lamplighter_ledger::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use crate::token::Tokens;
use extract::Bodies;
use iotregistry::Relays;
use problem::Problem;

pub use problem::chain;

/// Requests at work at once; more get 503. Their bodies have a budget of their own.
const REQUESTS_MAX: usize = 4_096;
/// Subscribers of the feed at once.
const SUBSCRIBERS_MAX: usize = 1_024;
/// How the description calls the bearer token.
const TOKEN: &str = "token";

/// What every handler gets.
#[derive(Clone)]
pub struct App {
    pub handle: Handle,
    pub tokens: Tokens,
    pub read_needs_token: bool,
    pub subscribers: Arc<Semaphore>,
    pub bodies: Bodies,
    pub relays: Arc<Relays>,
    pub stop: CancellationToken,
}

impl App {
    pub fn new(
        handle: Handle,
        tokens: Tokens,
        read_needs_token: bool,
        stop: CancellationToken,
    ) -> Self {
        let subscribers = Arc::new(Semaphore::new(SUBSCRIBERS_MAX));
        let (bodies, relays) = (Bodies::new(), Arc::new(Relays::new()));
        Self {
            handle,
            tokens,
            read_needs_token,
            subscribers,
            bodies,
            relays,
            stop,
        }
    }

    /// Unix time in ms.
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lamplighter",
        description = "A city's devices, their firmware, configuration and events on a ledger.",
        license(name = "Apache-2.0")
    ),
    components(schemas(transactions::Wait))
)]
struct Document;

/// Routes and their description.
fn describe(app: &App) -> (Router<App>, utoipa::openapi::OpenApi) {
    let open = OpenApiRouter::new()
        .merge(transactions::open_routes())
        .merge(status::routes())
        .merge(auth::routes())
        .merge(users::open_routes())
        .merge(artifacts::open_routes());
    let mut guarded = OpenApiRouter::new()
        .merge(transactions::routes())
        .merge(blocks::routes())
        .merge(users::routes())
        .merge(devices::routes())
        .merge(firmware::routes())
        .merge(artifacts::routes())
        .merge(rollouts::routes())
        .merge(events::routes())
        .merge(feed::routes())
        .merge(iotregistry::routes())
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::guard));
    demand_token(guarded.get_openapi_mut());
    let mut document = Document::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    OpenApiRouter::with_openapi(document)
        .merge(open)
        .merge(guarded)
        .split_for_parts()
}

/// Says of all operations that they need a token.
fn demand_token(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        let PathItem {
            get,
            post,
            patch,
            head,
            ..
        } = item;
        for operation in [get, post, patch, head].into_iter().flatten() {
            operation.security = Some(vec![SecurityRequirement::new(TOKEN, [""; 0])]);
        }
    }
}

/// Everything that the HTTP listener serves.
pub fn router(app: App) -> Router {
    let (routes, document) = describe(&app);
    let document = Arc::new(document);
    routes
        .route(
            "/openapi.json",
            get(move || async move { Json(document.as_ref().clone()) }),
        )
        .route("/docs", get(|| async { Html(include_str!("docs.html")) }))
        .fallback(|| async { Problem::not_found("such path; /docs lists them") })
        .method_not_allowed_fallback(|| async {
            let detail = "this path has other methods; /docs lists them";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
        })
        .layer(DefaultBodyLimit::max(extract::BODY_BYTES_MAX))
        .layer(CatchPanicLayer::new())
        .layer(
            tower::ServiceBuilder::new()
                .layer(axum::error_handling::HandleErrorLayer::new(overloaded))
                .layer(LoadShedLayer::new())
                .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_MAX)),
        )
        .with_state(app)
}

async fn overloaded(_: tower::BoxError) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        "too many requests at once",
    )
}
