//! `/v1/blocks`, `/v1/headers`, `/v1/certificates`, `/v1/proofs`: the chain itself.

use axum::extract::State;
use axum::{Extension, Json};
use lamplighter_ledger::Subject;
use lamplighter_state::{StateError, View, tables};
use lamplighter_types::proof::{ProofBundle, SetPath};
use lamplighter_types::wire::{DecodedTransaction, FullBlock};
use lamplighter_types::{Certificate, Hash, Header, SignedTransaction};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem};
use super::extract::{Path, Query};
use super::read::{self, AtHeight, JsonAt, parse};
use super::transactions::decode;
use crate::rights::{Record, Rights};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(block))
        .routes(routes!(header))
        .routes(routes!(certificate))
        .routes(routes!(transaction_proof))
        .routes(routes!(receipt_proof))
        .routes(routes!(event_proof))
}

/// Routes without a token: the changes of the validators prove themselves, and a client that knows
/// no node's key learns them here before it sends anything.
pub fn open_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(validators_proof))
}

fn parse_height(app: &App, text: &str) -> Result<u64, ApiError> {
    match text {
        "latest" => Ok(app.handle.head().height),
        number => parse(number),
    }
}

/// A block by height, or `latest`.
#[utoipa::path(get, path = "/v1/blocks/{height}", tag = "chain",
    params(("height" = String, Path, pattern = "^(latest|[0-9]{1,19})$")),
    responses((status = 200, body = FullBlock), (status = 404, body = Problem)))]
async fn block(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(height): Path<String>,
) -> Result<JsonAt<FullBlock>, ApiError> {
    let (state, _) = read::view(&app, None, false).await?;
    read::require(&rights, &state, &Record::Block)?;
    let height = parse_height(&app, &height)?;
    let reader = app.clone();
    let read = move || {
        let block = read_block(&reader, height)?;
        JsonAt::new(reader.handle.head().height, &block)
    };
    read::off_thread(&app, read).await
}

fn read_block(app: &App, height: u64) -> Result<FullBlock, ApiError> {
    let block = app.handle.block(height)?;
    let block = block.ok_or_else(|| ApiError::not_found(format!("block {height}")))?;
    let (receipts, certificate) = (
        app.handle.receipts(height)?,
        app.handle.certificate(height)?,
    );
    let hash = block.header.hash();
    let decoded = block.transactions.iter().map(|signed| decode(app, signed));
    let transactions = decoded.collect::<Result<Vec<DecodedTransaction>, _>>()?;
    Ok(FullBlock {
        block,
        hash,
        transactions,
        receipts,
        certificate,
    })
}

/// A header by height, or `latest`.
#[utoipa::path(get, path = "/v1/headers/{height}", tag = "chain",
    params(("height" = String, Path, pattern = "^(latest|[0-9]{1,19})$")),
    responses((status = 200, body = Header), (status = 404, body = Problem)))]
async fn header(
    State(app): State<App>,
    Path(height): Path<String>,
) -> Result<AtHeight<Header>, ApiError> {
    let height = parse_height(&app, &height)?;
    let reader = app.handle.clone();
    let header = read::off_thread(&app, move || reader.header(height)).await?;
    let body = header.ok_or_else(|| ApiError::not_found(format!("header {height}")))?;
    Ok(AtHeight {
        height: app.handle.head().height,
        body,
    })
}

/// The certificate on the header of a height, or the `latest`. A later one covers every earlier
/// header.
#[utoipa::path(get, path = "/v1/certificates/{height}", tag = "chain",
    params(("height" = String, Path, pattern = "^(latest|[0-9]{1,19})$")),
    responses((status = 200, body = Certificate), (status = 404, body = Problem)))]
async fn certificate(
    State(app): State<App>,
    Path(height): Path<String>,
) -> Result<AtHeight<Certificate>, ApiError> {
    let height = match height.as_str() {
        "latest" => app.handle.certified_height(),
        number => parse(number)?,
    };
    let reader = app.handle.clone();
    let certificate = read::off_thread(&app, move || reader.certificate(height)).await?;
    let missing = || ApiError::not_found(format!("certificate of exactly the height {height}"));
    Ok(AtHeight {
        height: app.handle.head().height,
        body: certificate.ok_or_else(missing)?,
    })
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ProofQuery {
    /// Proves the receipt in place of the transaction.
    #[serde(default)]
    receipt: bool,
    /// The height of the validators that the verifier trusts; 0, the genesis file, if absent.
    #[serde(default)]
    trusted: u64,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TrustedQuery {
    /// The height of the validators that the verifier trusts; 0, the genesis file, if absent.
    #[serde(default)]
    trusted: u64,
}

/// Proof that a transaction, or its receipt, is in the chain.
#[utoipa::path(get, path = "/v1/proofs/transactions/{hash}", tag = "chain",
    params(("hash" = Hash, Path), ProofQuery),
    responses((status = 200, body = ProofBundle), (status = 404, body = Problem),
        (status = 504, body = Problem)))]
async fn transaction_proof(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path(hash): Path<Hash>,
    Query(query): Query<ProofQuery>,
) -> Result<JsonAt<ProofBundle>, ApiError> {
    let (state, _) = read::view(&app, None, false).await?;
    let check = move || {
        let Some(signed) = transaction_at(&state, &hash)? else {
            return Ok(());
        };
        let sender = signed.stored_sender();
        let sender = sender.map_err(|error| ApiError::internal(&error))?;
        read::require(&rights, &state, &Record::Transaction { sender: &sender })
    };
    read::off_thread(&app, check).await?;
    let subject = if query.receipt {
        Subject::Receipt(hash)
    } else {
        Subject::Transaction(hash)
    };
    read::prove(&app, subject, query.trusted).await
}

/// The signed transaction of a name, if it is in a block.
fn transaction_at(state: &View, hash: &Hash) -> Result<Option<SignedTransaction>, StateError> {
    let store = &**state.store();
    match tables::transaction_place(store, hash)? {
        Some((height, index)) => tables::transaction(store, height, index),
        None => Ok(None),
    }
}

/// Proof of a receipt by the height of its block and its index among the block's receipts. What
/// time alone has caused is in the last receipt of a block, which is of no transaction.
#[utoipa::path(get, path = "/v1/proofs/receipts/{height}/{index}", tag = "chain",
    params(("height" = u64, Path), ("index" = u32, Path), TrustedQuery),
    responses((status = 200, body = ProofBundle), (status = 404, body = Problem),
        (status = 504, body = Problem)))]
async fn receipt_proof(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path((height, index)): Path<(u64, u32)>,
    Query(query): Query<TrustedQuery>,
) -> Result<JsonAt<ProofBundle>, ApiError> {
    let (state, _) = read::view(&app, None, false).await?;
    let check = move || match tables::transaction(&**state.store(), height, index)? {
        Some(signed) => {
            let sender = signed.stored_sender();
            let sender = sender.map_err(|error| ApiError::internal(&error))?;
            read::require(&rights, &state, &Record::Transaction { sender: &sender })
        }
        None => read::require(&rights, &state, &Record::Block),
    };
    read::off_thread(&app, check).await?;
    read::prove(&app, Subject::ReceiptAt { height, index }, query.trusted).await
}

/// Proof of a device event, by the height of its block and its index among the block's events.
#[utoipa::path(get, path = "/v1/proofs/events/{height}/{index}", tag = "chain",
    params(("height" = u64, Path), ("index" = u32, Path), TrustedQuery),
    responses((status = 200, body = ProofBundle), (status = 404, body = Problem),
        (status = 504, body = Problem)))]
async fn event_proof(
    State(app): State<App>,
    Extension(rights): Extension<Rights>,
    Path((height, index)): Path<(u64, u32)>,
    Query(query): Query<TrustedQuery>,
) -> Result<JsonAt<ProofBundle>, ApiError> {
    let (state, _) = read::view(&app, None, false).await?;
    let check = move || {
        let Some(record) = tables::event(&**state.store(), height, index)? else {
            return Ok(());
        };
        read::require(&rights, &state, &Record::DeviceNamed(&record.event.device))
    };
    read::off_thread(&app, check).await?;
    let subject = Subject::Event { height, index };
    read::prove(&app, subject, query.trusted).await
}

/// Changes of the validators that lead a verifier on from those that it trusts, in pages: while
/// `more` is true, others follow after the height of the last one.
#[utoipa::path(get, path = "/v1/proofs/validators", tag = "chain", params(TrustedQuery),
    responses((status = 200, body = SetPath)))]
async fn validators_proof(
    State(app): State<App>,
    Query(query): Query<TrustedQuery>,
) -> Result<Json<SetPath>, ApiError> {
    Ok(Json(app.handle.set_path(query.trusted).await?))
}
