//! `/v1/submissions`: many transactions in one request, and their outcomes as they come.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use futures::{StreamExt, stream};
use lamplighter_system::error_chain;
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::limits::{REPLAY_WINDOW, TRANSACTION_BYTES_MAX};
use lamplighter_types::wire::{SubmissionAnswer, Wait, content_type};
use lamplighter_types::{Encoding, SignedTransaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::error::{ApiError, Problem, code};
use super::extract::{BodyBytes, Query, content_type as kind_of};
use super::quota::{PeerAddress, client_of};
use super::read::off_thread;
use super::transactions::{SubmitQuery, outcome};
use crate::address_shares::{AddressPlace, AddressShares};

/// Transactions of one request: as many as one key can have on their way.
pub const TRANSACTIONS_MAX: usize = REPLAY_WINDOW as usize;
/// Bytes of one request: four of the largest batches of Raft.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Requests of a node at once that are at work or whose answer is not read yet: together they may
/// fill the mempool several times, and their answers, when nobody reads them, some 256 MiB.
const REQUESTS_MAX: usize = 512;
/// Requests of one address at once, an eighth, as of the connections: no slow reader takes all.
const REQUESTS_PER_ADDRESS: usize = 64;
/// Longest detail about bytes that are no transaction, which it may quote, in characters.
const DETAIL_MAX: usize = 300;
/// Bytes of the length before a transaction in binary form.
const LENGTH_BYTES: usize = 4;

/// Routes without a token: each transaction is signed.
pub fn open_routes() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new().routes(routes!(submit_many));
    routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// The places of requests.
#[derive(Clone)]
pub struct SubmissionPlaces {
    all: Arc<Semaphore>,
    shares: AddressShares,
}

/// The place of one request, until its work is done and its answer is read or given up.
struct SubmissionPlace {
    _permit: OwnedSemaphorePermit,
    _share: Option<AddressPlace>,
}

impl SubmissionPlaces {
    pub fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(REQUESTS_MAX)),
            shares: AddressShares::new(REQUESTS_PER_ADDRESS),
        }
    }

    /// A place; none if all are taken, or the address has its share.
    fn acquire(&self, address: Option<IpAddr>) -> Option<SubmissionPlace> {
        let share = match address {
            Some(address) => Some(self.shares.acquire(client_of(address))?),
            None => None,
        };
        let permit = self.all.clone().try_acquire_owned().ok()?;
        Some(SubmissionPlace {
            _permit: permit,
            _share: share,
        })
    }

    #[cfg(test)]
    fn free(&self) -> usize {
        self.all.available_permits()
    }
}

/// A transaction of a request, if its bytes are one.
type Item = Result<SignedTransaction, CodecError>;

/// Submits many signed transactions, each for itself: one that is refused or fails changes nothing
/// for the others.
///
/// The answer has one line for each transaction, in the order of the request, and begins before the
/// last one is decided. A request that did not come whole submits nothing. After a lost answer the
/// same bytes can be sent again, here or to another node: each transaction happens once.
#[utoipa::path(post, path = "/v1/submissions", tag = "transactions", params(SubmitQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "At most 1,024 transactions and 8 MiB: in the ledger's binary encoding, each \
            after its length (4 bytes, little-endian). Or `application/x-ndjson`: as JSON, one \
            `SignedTransaction` in a line."),
    responses(
        (status = 200, description = "A line for each transaction, with the status that \
            `POST /v1/transactions` would answer with.", body = SubmissionAnswer,
            content_type = "application/x-ndjson"),
        (status = 400, description = "The transactions can't be told apart, or are none or too \
            many.", body = Problem),
        (status = 415, description = "Another content type.", body = Problem),
        (status = 503, description = "The node has too many such requests.", body = Problem)))]
async fn submit_many(
    State(app): State<App>,
    address: Option<Extension<PeerAddress>>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    body: BodyBytes,
) -> Result<Response, ApiError> {
    let address = address.map(|address| address.0.0);
    let place = app.submissions.acquire(address);
    let place = place.ok_or_else(|| ApiError::busy("too many submissions at once"))?;
    let place = Arc::new(place);
    let encoding = encoding_of(&headers)?;
    let bytes = body.bytes.clone();
    let items = off_thread(&app, move || split(encoding, bytes)).await?;
    charge(&app, address, items.len());
    let deadline = Instant::now() + Duration::from_millis(query.timeout_ms());
    // All answers find room, so a slow reader holds up no transaction, and the task ends in time.
    let (lines, answers) = mpsc::channel(items.len());
    let submitting = submit_all(app.clone(), items, query.wait(), deadline, lines);
    let (stop, worker_place) = (app.stop.clone(), Arc::clone(&place));
    app.tasks.spawn(async move {
        stop.run_until_cancelled(submitting).await;
        // The bytes count to the memory of bodies, and the request to those at work, until here.
        drop((body, worker_place));
    });
    let kind = [(header::CONTENT_TYPE, content_type::JSON_LINES)];
    Ok((StatusCode::OK, kind, body_of(answers, place)).into_response())
}

/// The answer as its lines come. It has its place as long as lines may wait for their reader.
fn body_of(answers: mpsc::Receiver<Bytes>, place: Arc<SubmissionPlace>) -> Body {
    let lines = stream::unfold((answers, place), |(mut answers, place)| async move {
        let line = answers.recv().await?;
        Some((Ok::<_, Infallible>(line), (answers, place)))
    });
    Body::from_stream(lines)
}

/// Counts the transactions beyond the first to the requests of an address: in the long run it sends
/// no more of them than one by one.
fn charge(app: &App, address: Option<IpAddr>, transactions: usize) {
    if let Some(address) = address {
        app.quotas.charge_requests(address, transactions - 1);
    }
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    match kind_of(headers) {
        Some(content_type::JSON_LINES) => Ok(Encoding::Json),
        Some(content_type::BYTES) => Ok(Encoding::Bincode),
        _ => {
            let detail = "send application/x-ndjson or application/octet-stream";
            Err(ApiError::content_type(detail))
        }
    }
}

/// Takes a request apart.
///
/// # Errors
/// A length is wrong, or the number of transactions: then none is submitted.
fn split(encoding: Encoding, bytes: Bytes) -> Result<Vec<Item>, ApiError> {
    let items: Vec<Item> = match encoding {
        Encoding::Json => {
            let lines = bytes.split(|byte| *byte == b'\n');
            let lines = lines.filter(|line| !line.is_empty());
            let lines = lines.take(TRANSACTIONS_MAX + 1);
            lines.map(codec::decode_json).collect()
        }
        Encoding::Bincode => split_binary(bytes)?,
    };
    if items.is_empty() || items.len() > TRANSACTIONS_MAX {
        let detail = format!("send 1 to {TRANSACTIONS_MAX} transactions");
        return Err(ApiError::invalid(code::TRANSACTION_MALFORMED, detail));
    }
    Ok(items)
}

fn split_binary(mut bytes: Bytes) -> Result<Vec<Item>, ApiError> {
    let mut items = Vec::new();
    while !bytes.is_empty() && items.len() <= TRANSACTIONS_MAX {
        let whole = bytes.len() >= LENGTH_BYTES;
        let length = whole.then(|| bytes.get_u32_le() as usize);
        let length = length.filter(|length| *length <= bytes.len().min(envelope_bytes_max()));
        let Some(length) = length else {
            let detail = format!("transaction {} has a wrong length", items.len());
            return Err(ApiError::invalid(code::TRANSACTION_MALFORMED, detail));
        };
        items.push(codec::decode(&bytes.split_to(length)));
    }
    Ok(items)
}

/// Bytes of a transaction with its envelope in binary form.
const fn envelope_bytes_max() -> usize {
    TRANSACTION_BYTES_MAX + 1_024
}

/// Submits all transactions at once and sends an answer for each, in their order. It ends when the
/// reader is gone: what was submitted may happen nevertheless.
async fn submit_all(
    app: App,
    items: Vec<Item>,
    wait: Wait,
    deadline: Instant,
    lines: mpsc::Sender<Bytes>,
) {
    let answer = |item| submit_one(&app, item, wait, deadline);
    let mut answers = stream::iter(items).map(answer).buffered(TRANSACTIONS_MAX);
    while let Some(answer) = answers.next().await {
        let mut line = serde_json::to_vec(&answer).expect("our types have JSON forms");
        line.push(b'\n');
        if lines.send(line.into()).await.is_err() {
            return;
        }
    }
}

async fn submit_one(app: &App, item: Item, wait: Wait, deadline: Instant) -> SubmissionAnswer {
    let outcome = match item {
        Ok(signed) => outcome(app, signed, wait, deadline).await,
        Err(error) => {
            let detail: String = error_chain(&error).chars().take(DETAIL_MAX).collect();
            Err(ApiError::invalid(code::TRANSACTION_MALFORMED, detail))
        }
    };
    match outcome {
        Ok((status, submitted)) => SubmissionAnswer {
            status: status.as_u16(),
            submitted: Some(submitted),
            problem: None,
        },
        Err(error) => {
            let problem = error.into_problem();
            SubmissionAnswer {
                status: problem.status,
                submitted: None,
                problem: Some(problem),
            }
        }
    }
}
