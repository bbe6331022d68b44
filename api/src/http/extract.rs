//! What comes in, bounded in size, time and memory; whatever is wrong with it is told as a problem.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;
use lamplighter_types::codec;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::App;
use super::problem::{Problem, chain};

/// Bodies of requests that carry no transaction and no piece of an artifact.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// A body must be there in this time: a piece of an artifact at 1.1 Mbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Memory for bodies that are arriving, in KiB: 128 MiB, 32 pieces of artifacts or many thousand
/// transactions.
const BODIES_KIB_MAX: usize = 128 * 1024;

/// Memory for bodies, shared by all requests.
#[derive(Clone)]
pub struct Bodies(Arc<Semaphore>);

impl Bodies {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_KIB_MAX)))
    }
}

/// The memory of one body. It is taken as the bytes arrive, so that announcing much costs others
/// nothing.
struct Memory {
    all: Arc<Semaphore>,
    taken_kib: AtomicUsize,
    refused: AtomicBool,
}

impl Memory {
    fn take(&self, bytes: usize) -> Result<(), Busy> {
        let kib = bytes.div_ceil(1024);
        let permit = u32::try_from(kib).map_err(|_| Busy).and_then(|kib| {
            let permit = self.all.try_acquire_many(kib);
            permit.map_err(|_| Busy)
        });
        match permit {
            Ok(permit) => {
                permit.forget();
                self.taken_kib.fetch_add(kib, Ordering::Relaxed);
                Ok(())
            }
            Err(busy) => {
                self.refused.store(true, Ordering::Relaxed);
                Err(busy)
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.all.add_permits(*self.taken_kib.get_mut());
    }
}

/// There is no memory for more bodies.
#[derive(Debug, thiserror::Error)]
#[error("too many bodies are arriving at once")]
struct Busy;

/// The bytes of a body, and the memory that they take.
pub struct Payload {
    pub bytes: Bytes,
    _memory: Arc<Memory>,
}

impl FromRequest<App> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let memory = Arc::new(Memory {
            all: app.bodies.0.clone(),
            taken_kib: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
        });
        let counting = memory.clone();
        let request = request.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |piece| {
                let piece = piece?;
                counting.take(piece.len()).map_err(axum::Error::new)?;
                Ok::<_, axum::Error>(piece)
            }))
        });
        let read = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, app)).await;
        let read = read.map_err(|_| {
            let seconds = BODY_TIMEOUT.as_secs();
            let detail = format!("the body did not arrive within {seconds} s");
            Problem::new(StatusCode::REQUEST_TIMEOUT, "body.timeout", detail)
        })?;
        let bytes = read.map_err(|e| match memory.refused.load(Ordering::Relaxed) {
            true => Problem::busy(Busy.to_string()),
            false => Problem::new(e.status(), body_code(e.status()), e.body_text()),
        })?;
        Ok(Self {
            bytes,
            _memory: memory,
        })
    }
}

fn body_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "body.too_large",
        _ => "body.incomplete",
    }
}

/// The media type of a request without its parameters.
pub fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

/// A JSON body; unknown and repeated fields are refused.
pub struct Input<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if content_type(request.headers()) != Some("application/json") {
            return Err(Problem::content_type("send application/json"));
        }
        let body = Payload::from_request(request, app).await?;
        let value = codec::decode_json(&body.bytes);
        Ok(Self(value.map_err(|e| {
            Problem::invalid("body.malformed", chain(&e))
        })?))
    }
}

/// Parts of the path.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(e) => Err(Problem::new(e.status(), "parameter", e.body_text())),
        }
    }
}

/// Parameters of the query; unknown and repeated ones are refused.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(e) => Err(Problem::new(e.status(), "parameter", e.body_text())),
        }
    }
}
