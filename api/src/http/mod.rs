//! The HTTP interface, one file per resource. Writing is authenticated by the transaction's own
//! signature, reading by a token; everything is bounded in size, time and number.

mod artifacts;
mod auth;
mod blocks;
mod devices;
mod document;
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

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{Html, Redirect};
use axum::routing::get;
use axum::{Router, middleware};
use lamplighter_ledger::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::catch_panic::CatchPanicLayer;

use crate::token::Tokens;
use extract::Bodies;
use iotregistry::Relays;
use problem::Problem;

/// Requests at work at once; more get 503. Their bodies have a budget of their own.
const REQUESTS_MAX: usize = 4_096;
/// Subscribers of the feed at once.
const SUBSCRIBERS_MAX: usize = 1_024;

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

/// Everything that the HTTP listener serves.
pub fn router(app: App) -> Router {
    let (routes, document) = document::describe(&app);
    let document = Bytes::from(document.to_string());
    let kind = [(header::CONTENT_TYPE, "application/json")];
    routes
        .layer(middleware::from_fn_with_state(app.clone(), read::height))
        .route(
            "/openapi.json",
            get(move || async move { (kind, document) }),
        )
        .route("/docs", get(|| async { Html(include_str!("docs.html")) }))
        // Relative, for proxies that serve a node below a path.
        .route("/", get(|| async { Redirect::temporary("docs") }))
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
