//! `/v1/transactions`: submitting, and asking what became of it.

use std::time::Duration;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use lamplighter_contracts::ContractError;
use lamplighter_ledger::{Commitment, Verdict};
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::{Hash, Receipt, SignedTransaction, codec};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Path, Payload, Query, content_type};
use super::problem::Problem;

/// How long a submission waits unless it says otherwise, and at most.
const WAIT_MS: u64 = 30_000;
const WAIT_MS_MAX: u64 = 120_000;
/// A transaction in hexadecimal with the other fields of its envelope.
pub const BODY_BYTES_MAX: usize = TRANSACTION_BYTES_MAX * 2 + 4_096;

pub fn routes() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new()
        .routes(routes!(submit))
        .routes(routes!(transaction));
    routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// What a submission waits for.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Taken into the pool of this node.
    None,
    /// In a block, durable on a majority.
    #[default]
    Committed,
    /// Under a certificate.
    Certified,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SubmitQuery {
    #[serde(default)]
    wait: Wait,
    /// How long to wait, in ms, at most 120,000.
    timeout_ms: Option<u64>,
}

/// What became of a transaction.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Submitted {
    transaction: Hash,
    /// The block's height; absent while the transaction waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    /// Among the transactions of the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    /// Whether a certificate covers it.
    certified: bool,
    /// What it did; a failed one is in the block too and says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
}

fn envelope(headers: &HeaderMap, body: &[u8]) -> Result<SignedTransaction, Problem> {
    match content_type(headers) {
        Some("application/json") => codec::decode_json(body)
            .map_err(|e| Problem::invalid("transaction.malformed", super::problem::chain(&e))),
        Some("application/octet-stream") => codec::decode(body)
            .map_err(|e| Problem::invalid("transaction.malformed", super::problem::chain(&e))),
        _ => Err(Problem::content_type(
            "send application/json or application/octet-stream",
        )),
    }
}

/// Submits a signed transaction. The same bytes sent again get the same answer.
///
/// A refused transaction is in no block and gives a problem; one that failed is in a block, and its
/// receipt says why.
#[utoipa::path(post, path = "/v1/transactions", tag = "transactions", params(SubmitQuery),
    request_body(content = SignedTransaction),
    responses(
        (status = 200, description = "In a block.", body = Submitted),
        (status = 202, description = "Taken, not yet in a block.", body = Submitted),
        (status = 400, description = "Malformed, or not signed for this chain.", body = Problem),
        (status = 422, description = "Can't be in any block.", body = Problem),
        (status = 503, description = "Busy: send the same bytes again.", body = Problem)))]
async fn submit(
    State(app): State<App>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    body: Payload,
) -> Result<(StatusCode, Json<Submitted>), Problem> {
    let signed = envelope(&headers, &body.bytes)?;
    drop(body);
    let ticket = app.handle.submit(signed).await?;
    let transaction = ticket.hash;
    let pending = Submitted {
        transaction,
        height: None,
        index: None,
        certified: false,
        receipt: None,
    };
    if matches!(query.wait, Wait::None) {
        return Ok((StatusCode::ACCEPTED, Json(pending)));
    }
    let within = Duration::from_millis(query.timeout_ms.unwrap_or(WAIT_MS).min(WAIT_MS_MAX));
    let ends = tokio::time::Instant::now() + within;
    let Ok(verdict) = tokio::time::timeout_at(ends, ticket.verdict()).await else {
        return Ok((StatusCode::ACCEPTED, Json(pending)));
    };
    match verdict {
        Verdict::Committed(commitment) => {
            if matches!(query.wait, Wait::Certified) {
                let left = ends.saturating_duration_since(tokio::time::Instant::now());
                app.handle.wait_certified(commitment.height, left).await?;
            }
            Ok((
                StatusCode::OK,
                Json(submitted(&app, transaction, commitment)),
            ))
        }
        Verdict::Refused(refusal) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            refusal.code(),
            refusal.to_string(),
        )),
        // The node is stopping, and the transaction may still happen.
        Verdict::Unknown => Ok((StatusCode::ACCEPTED, Json(pending))),
    }
}

/// What is told of a transaction in a block.
pub fn submitted(app: &App, transaction: Hash, commitment: Commitment) -> Submitted {
    let Commitment {
        height,
        index,
        receipt,
    } = commitment;
    Submitted {
        transaction,
        height: Some(height),
        index: Some(index),
        certified: app.handle.certified_height() >= height,
        receipt: Some(receipt.as_ref().clone()),
    }
}

/// A transaction's place and receipt.
#[utoipa::path(get, path = "/v1/transactions/{hash}", tag = "transactions",
    params(("hash" = Hash, Path, description = "The transaction's name.")),
    responses(
        (status = 200, description = "In a block.", body = Submitted),
        (status = 404, description = "In no block that this node has.", body = Problem)))]
async fn transaction(
    State(app): State<App>,
    Path(hash): Path<Hash>,
) -> Result<Json<Submitted>, Problem> {
    match app.handle.transaction(&hash)? {
        Some(commitment) => Ok(Json(submitted(&app, hash, commitment))),
        None => Err(Problem::not_found(format!("transaction {hash}"))),
    }
}
