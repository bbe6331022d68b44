//! The HTTP interface, one file per resource. Writes are authenticated by the signature of the
//! transaction, reads by a token. Everything is bounded in size, time and number.

mod alarms;
mod answer;
mod archive;
mod artifacts;
mod auth;
mod blocks;
mod config;
mod cors;
mod devices;
mod document;
mod error;
mod exposure;
mod extract;
mod feed;
mod firmware;
mod iotregistry;
mod list;
pub mod quota;
mod read;
mod reader;
mod reports;
mod rollouts;
mod sessions;
mod status;
mod submissions;
mod timeline;
mod transactions;
mod users;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{Html, Redirect};
use axum::routing::get;
use axum::{Router, middleware};
use lamplighter_ledger::Handle;
use lamplighter_types::wire::content_type;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;

use crate::settings::{HttpSettings, QuotaSettings};
use crate::token::Tokens;
use error::ApiError;
pub(crate) use error::code;
use extract::BodyBudget;
use iotregistry::RelayLimit;
use quota::Quotas;
use submissions::SubmissionPlaces;

/// Requests at work at once; more get 503. Their bodies have a budget of their own.
const REQUESTS_MAX: usize = 4_096;
/// Subscribers of the feed at once.
const SUBSCRIBERS_MAX: usize = 1_024;

/// The state that all handlers share.
#[derive(Clone)]
pub struct App {
    pub handle: Handle,
    pub tokens: Tokens,
    pub read_needs_token: bool,
    pub subscribers: Arc<Semaphore>,
    pub bodies: BodyBudget,
    /// Requests with many transactions.
    pub submissions: SubmissionPlaces,
    pub relay_limit: Arc<RelayLimit>,
    pub settings: Arc<HttpSettings>,
    pub quotas: Quotas,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl App {
    pub fn new(
        handle: Handle,
        tokens: Tokens,
        read_needs_token: bool,
        settings: HttpSettings,
        quotas: QuotaSettings,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            handle,
            tokens,
            read_needs_token,
            subscribers: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)),
            bodies: BodyBudget::new(),
            submissions: SubmissionPlaces::new(),
            relay_limit: Arc::new(RelayLimit::new()),
            settings: Arc::new(settings),
            quotas: Quotas::new(quotas),
            tasks,
            stop,
        }
    }
}

/// The routes of the HTTP listener.
pub fn router(app: App) -> Router {
    let (routes, document) = document::describe(&app);
    let document = Bytes::from(document.to_string());
    let content_type = [(header::CONTENT_TYPE, content_type::JSON)];
    let add_ledger_height = middleware::from_fn_with_state(app.clone(), read::add_ledger_height);
    routes
        .layer(add_ledger_height)
        .route(
            "/openapi.json",
            get(move || async move { (content_type, document) }),
        )
        .route("/docs", get(|| async { Html(include_str!("docs.html")) }))
        // A relative path, for proxies that serve a node below a path.
        .route("/", get(|| async { Redirect::temporary("docs") }))
        .fallback(|| async { ApiError::not_found("such path; /docs lists them") })
        .method_not_allowed_fallback(|| async {
            let detail = "this path has other methods; /docs lists them";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, code::METHOD, detail)
        })
        .layer(DefaultBodyLimit::max(extract::BODY_BYTES_MAX))
        .layer(CatchPanicLayer::new())
        .layer(
            tower::ServiceBuilder::new()
                .layer(axum::error_handling::HandleErrorLayer::new(overloaded))
                .layer(LoadShedLayer::new())
                .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_MAX)),
        )
        .layer(middleware::from_fn_with_state(
            app.clone(),
            quota::of_address,
        ))
        .layer(option_layer(cors::layer(&app.settings.cors_origins)))
        .with_state(app)
}

async fn overloaded(_: tower::BoxError) -> ApiError {
    ApiError::busy("too many requests at once")
}
