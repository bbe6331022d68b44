//! Errors as clients see them: problem details (RFC 9457) with a stable `code`. What is internal is
//! logged and not told.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lamplighter_contracts::ContractError;
use lamplighter_ledger::{Busy, ProveError, SubmitError, WaitError};
use lamplighter_state::StateError;
use serde::Serialize;

/// Seconds after which a busy node may be asked again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// A problem of a request (RFC 9457), `application/problem+json`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells the kind.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Of the status.
    title: &'static str,
    status: u16,
    /// Stable, e.g. `transaction.invalid`.
    code: String,
    /// For people.
    detail: String,
}

impl Problem {
    pub fn new(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: code.into(),
            detail: detail.into(),
        }
    }

    pub fn invalid(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no {what}"),
        )
    }

    pub fn content_type(detail: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail)
    }

    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
    }

    /// The disk is nearly full: nothing is taken, everything can be read.
    pub fn read_only(detail: impl Into<String>) -> Self {
        Self {
            title: "Read-only",
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "read_only", detail)
        }
    }

    /// A failure of the node itself; its log has the cause.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(error), "a request failed inside the node");
        let detail = "the node could not do this; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

/// An error with its causes, joined by colons.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        Self::internal(&error)
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match &error {
            SubmitError::Invalid(_) => Self::invalid("transaction.invalid", chain(&error)),
            SubmitError::Refused(refusal) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                refusal.code(),
                refusal.to_string(),
            ),
            SubmitError::Busy(Busy::ReadOnly) => Self::read_only(Busy::ReadOnly.to_string()),
            SubmitError::Busy(busy) => Self::busy(busy.to_string()),
            SubmitError::State(_) => Self::internal(&error),
        }
    }
}

impl From<WaitError> for Problem {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Deadline { .. }
            | WaitError::Uncertified { .. }
            | WaitError::Unconfirmed { .. } => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline", error.to_string())
            }
            WaitError::Stopped => Self::busy(error.to_string()),
        }
    }
}

impl From<ProveError> for Problem {
    fn from(error: ProveError) -> Self {
        match &error {
            ProveError::NotFound => Self::not_found("such record"),
            ProveError::Wait(wait) => (*wait).into(),
            ProveError::State(_) => Self::internal(&error),
        }
    }
}
