//! `/v1/transactions`: submissions, and transactions in blocks.

use std::time::Duration;

use axum::Extension;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use lamplighter_contracts::{ContractError, refusal};
use lamplighter_ledger::{Commitment, Verdict};
use lamplighter_state::{View, tables};
use lamplighter_system::error_chain;
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::wire::content_type::transaction_encoding;
use lamplighter_types::wire::{
    DecodedTransaction, Submitted, TransactionName, TransactionNameError, TransactionRecord, Wait,
};
use lamplighter_types::{Encoding, Hash, Outcome, Receipt, SignedTransaction, codec};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::{BodyBytes, Path, Query, content_type};
use super::read::{self, AtHeight, JsonAt, off_thread, view};
use crate::rights::{Record, Rights};

/// The wait of a submission unless it gives another one, and the longest.
const WAIT_MS: u64 = 30_000;
const WAIT_MS_MAX: u64 = 120_000;
/// A transaction in hexadecimal with the other fields of its envelope.
pub const BODY_BYTES_MAX: usize = TRANSACTION_BYTES_MAX * 2 + 4_096;

/// Routes without a token: a transaction is signed.
pub fn open_routes() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new().routes(routes!(submit));
    routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(transaction))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SubmitQuery {
    #[serde(default)]
    wait: Wait,
    /// Longest wait in ms; 30,000 if absent, at most 120,000.
    timeout_ms: Option<u64>,
}

impl SubmitQuery {
    pub fn wait(&self) -> Wait {
        self.wait
    }

    /// The longest wait.
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms.unwrap_or(WAIT_MS).min(WAIT_MS_MAX)
    }
}

fn decode_envelope(headers: &HeaderMap, body: &[u8]) -> Result<SignedTransaction, ApiError> {
    let decoded = match content_type(headers).and_then(transaction_encoding) {
        Some(Encoding::Json) => codec::decode_json(body),
        Some(Encoding::Bincode) => codec::decode(body),
        None => {
            let detail = "send application/json or application/octet-stream";
            return Err(ApiError::content_type(detail));
        }
    };
    decoded.map_err(|e| ApiError::invalid(code::TRANSACTION_MALFORMED, error_chain(&e)))
}

/// Submits a signed transaction. The same bytes sent again get the same answer.
///
/// A refused transaction is in no block and gives a problem; one that failed is in a block, and its
/// receipt says why.
#[utoipa::path(post, path = "/v1/transactions", tag = "transactions", params(SubmitQuery),
    request_body(content((SignedTransaction = "application/json"),
        (Vec<u8> = "application/octet-stream")),
        description = "As JSON, or in the ledger's binary encoding."),
    responses(
        (status = 200, description = "In a block.", body = Submitted),
        (status = 202, description = "Taken, not yet in a block.", body = Submitted),
        (status = 400, description = "Malformed, or not signed for this chain.", body = Problem),
        (status = 422, description = "Can't be in any block.", body = Problem),
        (status = 503, description = "Busy, read-only, or cut off from the other nodes: send the \
            same bytes again, best to another node.",
            body = Problem),
        (status = 504, description = "In a block, but not certified in time.", body = Problem)))]
async fn submit(
    State(app): State<App>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    body: BodyBytes,
) -> Result<(StatusCode, AtHeight<Submitted>), ApiError> {
    let signed = decode_envelope(&headers, &body.bytes)?;
    drop(body);
    let deadline = Instant::now() + Duration::from_millis(query.timeout_ms());
    let (status, body) = outcome(&app, signed, query.wait, deadline).await?;
    Ok((status, at_head(&app, body)))
}

/// Submits a transaction and waits for its outcome.
pub async fn outcome(
    app: &App,
    signed: SignedTransaction,
    wait: Wait,
    deadline: Instant,
) -> Result<(StatusCode, Submitted), ApiError> {
    let ticket = app.handle.submit(signed).await?;
    // Its signature is good: strangers do not make the validators sign more.
    if wait == Wait::Certified {
        app.handle.hasten_certificates();
    }
    let transaction = ticket.hash;
    let pending = || Ok((StatusCode::ACCEPTED, Submitted::pending(transaction)));
    if wait == Wait::None {
        return pending();
    }
    let Ok(verdict) = timeout_at(deadline, ticket.verdict()).await else {
        return pending();
    };
    match verdict {
        Verdict::Committed(commitment) => {
            if wait == Wait::Certified {
                let left = deadline.saturating_duration_since(Instant::now());
                app.handle.wait_certified(commitment.height, left).await?;
            }
            Ok((StatusCode::OK, submitted(app, transaction, commitment)))
        }
        Verdict::Refused(refusal) => Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            refusal.code(),
            refusal.to_string(),
        )),
        // The node is stopping, and the transaction may still happen.
        Verdict::Unknown => pending(),
    }
}

/// An answer of the newest height, which is not below that of the transaction's block.
fn at_head(app: &App, body: Submitted) -> AtHeight<Submitted> {
    let height = app.handle.head().height;
    AtHeight { height, body }
}

/// The state of a transaction in a block.
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
        message: refusal_message(&receipt),
        receipt: Some(receipt.as_ref().clone()),
    }
}

fn refusal_message(receipt: &Receipt) -> Option<String> {
    match &receipt.outcome {
        Outcome::Succeeded => None,
        Outcome::Failed { code, fields } => Some(refusal::message(code, fields)),
    }
}

/// Decodes a transaction that is in a block.
pub fn decode(app: &App, signed: &SignedTransaction) -> Result<DecodedTransaction, ApiError> {
    DecodedTransaction::new(signed, &app.handle.chain_id()).map_err(|e| ApiError::internal(&e))
}

/// A transaction in a block, with its sender, its action, its time and its receipt.
#[utoipa::path(get, path = "/v1/transactions/{hash}", tag = "transactions",
    params(("hash" = String, Path, pattern = "^(?:[0-9a-f]{64}|[0-9]{1,15}[.][0-9]{1,9})$",
        description = "The transaction's name: 64 hexadecimal digits, or its place, \
        `height.index`.")),
    responses(
        (status = 200, description = "In a block.", body = TransactionRecord),
        (status = 404, description = "In no block that this node has.", body = Problem)))]
async fn transaction(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(name): Path<String>,
) -> Result<JsonAt<TransactionRecord>, ApiError> {
    let name: TransactionName = name.parse().map_err(|error: TransactionNameError| {
        ApiError::invalid(code::PARAMETER, error.to_string())
    })?;
    let (state, head) = view(&app, None, false).await?;
    let reader = app.clone();
    let read = move || {
        let record = read_transaction(&reader, &state, &name)?;
        let sender = &record.decoded.sender;
        let allowed = rights.at(&state).allows(&Record::Transaction { sender })?;
        if !allowed {
            return Err(read::outside());
        }
        JsonAt::new(head.height, &record)
    };
    off_thread(&app, read).await
}

fn read_transaction(
    app: &App,
    state: &View,
    name: &TransactionName,
) -> Result<TransactionRecord, ApiError> {
    let store = &**state.store();
    let missing = || ApiError::not_found(format!("transaction {name}"));
    let (height, index) = match name {
        TransactionName::Hash(hash) => {
            tables::transaction_place(store, hash)?.ok_or_else(missing)?
        }
        TransactionName::Place(place) => (place.height, place.index),
    };
    let (header, signed, receipt) = (
        tables::header(store, height)?.ok_or_else(missing)?,
        tables::transaction(store, height, index)?.ok_or_else(missing)?,
        tables::receipt(store, height, index)?.ok_or_else(missing)?,
    );
    Ok(TransactionRecord {
        decoded: decode(app, &signed)?,
        time_ms: header.timestamp_ms,
        height,
        index,
        certified: app.handle.certified_height() >= height,
        receipt,
    })
}
