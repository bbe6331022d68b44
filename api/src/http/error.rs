//! Errors of requests as clients see them: problem details (RFC 9457) with a stable `code`. An
//! internal failure is logged, and the client gets no details.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lamplighter_contracts::ContractError;
use lamplighter_ledger::{Busy, ProveError, SubmitError, WaitError};
use lamplighter_state::StateError;
use lamplighter_system::error_chain;
pub use lamplighter_types::wire::Problem;
use lamplighter_types::wire::content_type;
pub use lamplighter_types::wire::problem::code;

/// Seconds after which a busy node may be asked again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The error of a request: a problem with its status.
#[derive(Debug)]
pub struct ApiError(Problem);

impl ApiError {
    pub fn new(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self(Problem::new(status.as_u16(), title, code, detail))
    }

    pub fn invalid(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn not_found(what: impl std::fmt::Display) -> Self {
        let detail = format!("there is no {what}");
        Self::new(StatusCode::NOT_FOUND, code::NOT_FOUND, detail)
    }

    pub fn content_type(detail: &str) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, code::CONTENT_TYPE, detail)
    }

    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code::BUSY, detail)
    }

    /// The disk is nearly full: nothing is accepted, everything can be read.
    pub fn read_only(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE.as_u16();
        Self(Problem::new(status, "Read-only", code::READ_ONLY, detail))
    }

    pub fn into_problem(self) -> Problem {
        self.0
    }

    /// A failure of the node itself; its log has the cause.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error_chain(error), "a request failed inside the node");
        let detail = "the node could not do this; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, detail)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static(content_type::PROBLEM);
        headers.insert(header::CONTENT_TYPE, content_type);
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

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        Self::internal(&error)
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match &error {
            SubmitError::Invalid(_) => {
                Self::invalid(code::TRANSACTION_INVALID, error_chain(&error))
            }
            SubmitError::Refused(refusal) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                refusal.code(),
                refusal.to_string(),
            ),
            SubmitError::Busy(Busy::ReadOnly) => Self::read_only(Busy::ReadOnly.to_string()),
            SubmitError::Busy(Busy::Account | Busy::Key) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                code::QUOTA_TRANSACTIONS,
                error.to_string(),
            ),
            SubmitError::Busy(busy) => {
                let code = match busy {
                    Busy::NoLeader { .. } => code::NO_LEADER,
                    Busy::Halted => code::HALTED,
                    _ => code::BUSY,
                };
                Self::new(StatusCode::SERVICE_UNAVAILABLE, code, busy.to_string())
            }
            SubmitError::State(_) => Self::internal(&error),
        }
    }
}

impl From<WaitError> for ApiError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Deadline { .. }
            | WaitError::Uncertified { .. }
            | WaitError::Unconfirmed { .. } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                code::DEADLINE,
                error.to_string(),
            ),
            WaitError::Stopped => Self::busy(error.to_string()),
        }
    }
}

impl From<ProveError> for ApiError {
    fn from(error: ProveError) -> Self {
        match &error {
            ProveError::NotFound => Self::not_found("such record"),
            ProveError::Wait(wait) => (*wait).into(),
            ProveError::Behind { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                code::PROOF_BEHIND,
                error.to_string(),
            ),
            ProveError::ManyChanges { .. } => Self::new(
                StatusCode::CONFLICT,
                code::PROOF_MANY_CHANGES,
                error.to_string(),
            ),
            ProveError::State(_) => Self::internal(&error),
        }
    }
}
