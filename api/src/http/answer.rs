//! Answers with the height of the state that they show.

use std::marker::PhantomData;

use axum::Json;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use lamplighter_types::wire::{content_type, header};
use serde::Serialize;

use super::error::ApiError;

/// The height of the state that an answer shows.
pub const LEDGER_HEIGHT: HeaderName = HeaderName::from_static(header::LEDGER_HEIGHT);

/// An answer with the height of the state that it shows.
pub struct AtHeight<T> {
    pub height: u64,
    pub body: T,
}

impl<T: Serialize> IntoResponse for AtHeight<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(LEDGER_HEIGHT, HeaderValue::from(self.height));
        response
    }
}

/// An answer that may be large, with the height of the state that it shows. Its JSON is made where
/// it is read, off the async threads.
pub struct JsonAt<T> {
    height: u64,
    json: Bytes,
    body: PhantomData<fn() -> T>,
}

impl<T: Serialize> JsonAt<T> {
    /// Makes the JSON.
    pub fn new(height: u64, body: &T) -> Result<Self, ApiError> {
        let json = serde_json::to_vec(body).map_err(|error| ApiError::internal(&error))?;
        Ok(Self {
            height,
            json: json.into(),
            body: PhantomData,
        })
    }
}

impl<T> IntoResponse for JsonAt<T> {
    fn into_response(self) -> Response {
        let mut response = self.json.into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type::JSON));
        headers.insert(LEDGER_HEIGHT, HeaderValue::from(self.height));
        response
    }
}
