//! `/v1/transactions`: submitting, and asking what became of it.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use lamplighter_contracts::ContractError;
use lamplighter_ledger::{Commitment, Verdict};
use lamplighter_state::tables;
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::{
    Action, Hash, Id, PublicKey, Receipt, SignedTransaction, Transaction, codec,
};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Path, Payload, Query, content_type};
use super::problem::Problem;
use super::read::{At, view};

/// How long a submission waits unless it says otherwise, and at most.
const WAIT_MS: u64 = 30_000;
const WAIT_MS_MAX: u64 = 120_000;
/// A transaction in hexadecimal with the other fields of its envelope.
pub const BODY_BYTES_MAX: usize = TRANSACTION_BYTES_MAX * 2 + 4_096;

/// Submitting needs no token: a transaction is signed.
pub fn open_routes() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new().routes(routes!(submit));
    routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(transaction))
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
    /// How long to wait, in ms; 30,000 if absent, at most 120,000.
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
    request_body(content((SignedTransaction = "application/json"),
        (Vec<u8> = "application/octet-stream")),
        description = "As JSON, or in the ledger's binary encoding."),
    responses(
        (status = 200, description = "In a block.", body = Submitted),
        (status = 202, description = "Taken, not yet in a block.", body = Submitted),
        (status = 400, description = "Malformed, or not signed for this chain.", body = Problem),
        (status = 422, description = "Can't be in any block.", body = Problem),
        (status = 503, description = "Busy or read-only: send the same bytes again.",
            body = Problem),
        (status = 504, description = "In a block, but not certified in time.", body = Problem)))]
async fn submit(
    State(app): State<App>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    body: Payload,
) -> Result<(StatusCode, At<Submitted>), Problem> {
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
        return Ok((StatusCode::ACCEPTED, at(&app, pending)));
    }
    let within = Duration::from_millis(query.timeout_ms.unwrap_or(WAIT_MS).min(WAIT_MS_MAX));
    let ends = tokio::time::Instant::now() + within;
    let Ok(verdict) = tokio::time::timeout_at(ends, ticket.verdict()).await else {
        return Ok((StatusCode::ACCEPTED, at(&app, pending)));
    };
    match verdict {
        Verdict::Committed(commitment) => {
            if matches!(query.wait, Wait::Certified) {
                let left = ends.saturating_duration_since(tokio::time::Instant::now());
                app.handle.wait_certified(commitment.height, left).await?;
            }
            let body = submitted(&app, transaction, commitment);
            Ok((StatusCode::OK, at(&app, body)))
        }
        Verdict::Refused(refusal) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            refusal.code(),
            refusal.to_string(),
        )),
        // The node is stopping, and the transaction may still happen.
        Verdict::Unknown => Ok((StatusCode::ACCEPTED, at(&app, pending))),
    }
}

/// An answer of the newest height, which is not below that of the transaction's block.
fn at(app: &App, body: Submitted) -> At<Submitted> {
    let height = app.handle.head().height;
    At { height, body }
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

/// A transaction in a block: who asked for what, when, and what became of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TransactionRecord {
    #[serde(flatten)]
    decoded: DecodedTransaction,
    /// Block time, Unix ms.
    time_ms: u64,
    /// The block's height.
    height: u64,
    /// Among the transactions of the block.
    index: u32,
    /// Whether a certificate covers it.
    certified: bool,
    /// What it did; a failed one is in the block too and says why.
    receipt: Receipt,
}

/// What a transaction says, with its payload decoded.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DecodedTransaction {
    transaction: Hash,
    /// The account that acts.
    sender: Id,
    /// The key that signed.
    key: PublicKey,
    /// Used once per key.
    sequence: u64,
    /// Unix time in ms from which on it could no longer happen.
    expires_ms: u64,
    /// What it asks for, as in the payload that is signed.
    action: Action,
}

impl DecodedTransaction {
    /// Decodes a transaction that is in a block.
    pub fn new(app: &App, signed: &SignedTransaction) -> Result<Self, Problem> {
        let Transaction {
            sender,
            sequence,
            expires_ms,
            action,
        } = signed
            .decode_payload()
            .map_err(|error| Problem::internal(&error))?;
        Ok(Self {
            transaction: signed.hash(&app.handle.chain_id()),
            sender,
            key: signed.key,
            sequence,
            expires_ms,
            action,
        })
    }
}

/// A transaction in a block: who asked for what, when, and what became of it.
#[utoipa::path(get, path = "/v1/transactions/{hash}", tag = "transactions",
    params(("hash" = Hash, Path, description = "The transaction's name.")),
    responses(
        (status = 200, description = "In a block.", body = TransactionRecord),
        (status = 404, description = "In no block that this node has.", body = Problem)))]
async fn transaction(
    State(app): State<App>,
    Path(hash): Path<Hash>,
) -> Result<At<TransactionRecord>, Problem> {
    let (state, head) = view(&app, None, false).await?;
    let store = &**state.store();
    let missing = || Problem::not_found(format!("transaction {hash}"));
    let (height, index) = tables::transaction_place(store, &hash)?.ok_or_else(missing)?;
    let (header, signed, receipt) = (
        tables::header(store, height)?.ok_or_else(missing)?,
        tables::transaction(store, height, index)?.ok_or_else(missing)?,
        tables::receipt(store, height, index)?.ok_or_else(missing)?,
    );
    let body = TransactionRecord {
        decoded: DecodedTransaction::new(&app, &signed)?,
        time_ms: header.timestamp_ms,
        height,
        index,
        certified: app.handle.certified_height() >= height,
        receipt,
    };
    Ok(At {
        height: head.height,
        body,
    })
}
