//! Extractors for bodies, paths and queries, bounded in size, time and memory. Their errors are
//! problems.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;
use lamplighter_system::error_chain;
use lamplighter_types::codec;
use lamplighter_types::wire::content_type::JSON;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::App;
use super::error::{ApiError, code};

/// Longest body of a request that carries no transaction and no piece of an artifact.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// Memory for bodies that are arriving, in KiB: 128 MiB, 32 pieces of artifacts or many thousand
/// transactions.
const BODIES_KIB_MAX: usize = 128 * 1024;

/// The memory budget for bodies, shared by all requests.
#[derive(Clone)]
pub struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_KIB_MAX)))
    }
}

/// The part of the budget that one body uses. It grows as the bytes arrive, so that a large
/// announced length costs other requests nothing.
struct BodyMemory {
    budget: Arc<Semaphore>,
    used_kib: AtomicUsize,
    is_refused: AtomicBool,
}

impl BodyMemory {
    fn reserve(&self, bytes: usize) -> Result<(), BudgetExhausted> {
        let kib = bytes.div_ceil(1024);
        let permit = u32::try_from(kib)
            .ok()
            .and_then(|kib| self.budget.try_acquire_many(kib).ok());
        let Some(permit) = permit else {
            self.is_refused.store(true, Ordering::Relaxed);
            return Err(BudgetExhausted);
        };
        permit.forget();
        self.used_kib.fetch_add(kib, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for BodyMemory {
    fn drop(&mut self) {
        self.budget.add_permits(*self.used_kib.get_mut());
    }
}

/// The budget has no memory for more bodies.
#[derive(Debug, thiserror::Error)]
#[error("too many bodies are arriving at once")]
struct BudgetExhausted;

/// The bytes of a body, and the memory that they use.
pub struct BodyBytes {
    pub bytes: Bytes,
    _memory: Arc<BodyMemory>,
}

impl FromRequest<App> for BodyBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let memory = Arc::new(BodyMemory {
            budget: app.bodies.0.clone(),
            used_kib: AtomicUsize::new(0),
            is_refused: AtomicBool::new(false),
        });
        let counted = memory.clone();
        let request = request.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |piece| {
                let piece = piece?;
                counted.reserve(piece.len()).map_err(axum::Error::new)?;
                Ok::<_, axum::Error>(piece)
            }))
        });
        let seconds = app.settings.body_timeout_s;
        let within = Duration::from_secs(seconds);
        let read = tokio::time::timeout(within, Bytes::from_request(request, app)).await;
        let read = read.map_err(|_| {
            let detail = format!("the body did not arrive within {seconds} s");
            ApiError::new(StatusCode::REQUEST_TIMEOUT, code::BODY_TIMEOUT, detail)
        })?;
        let bytes = read.map_err(|e| {
            if memory.is_refused.load(Ordering::Relaxed) {
                ApiError::busy(BudgetExhausted.to_string())
            } else {
                ApiError::new(e.status(), body_code(e.status()), e.body_text())
            }
        })?;
        Ok(Self {
            bytes,
            _memory: memory,
        })
    }
}

fn body_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => code::BODY_TOO_LARGE,
        _ => code::BODY_INCOMPLETE,
    }
}

/// The media type of a request without its parameters.
pub fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

/// A JSON body; unknown and repeated fields are refused.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        if content_type(request.headers()) != Some(JSON) {
            return Err(ApiError::content_type("send application/json"));
        }
        let body = BodyBytes::from_request(request, app).await?;
        let value = codec::decode_json(&body.bytes);
        let value = value.map_err(|e| ApiError::invalid(code::BODY_MALFORMED, error_chain(&e)))?;
        Ok(Self(value))
    }
}

/// Parameters of the path.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(e) => Err(ApiError::new(e.status(), code::PARAMETER, e.body_text())),
        }
    }
}

/// Parameters of the query; unknown and repeated ones are refused.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(e) => Err(ApiError::new(e.status(), code::PARAMETER, e.body_text())),
        }
    }
}
