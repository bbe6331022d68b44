//! The parts that all reads share: the state that they show, its height in the answer, pages,
//! histories and proofs.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lamplighter_ledger::{HeadInfo, Subject};
use lamplighter_state::{Key, StateError, View, tables};
use lamplighter_store::Direction;
use lamplighter_types::codec;
use lamplighter_types::proof::{ProofBundle, RecordProof};
use lamplighter_types::wire::{Cursor, HistoryEntry, Page, RecordChange, RecordResponse, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::{ApiError, code};
use super::reader;

/// The height of the state that an answer shows.
pub const LEDGER_HEIGHT: HeaderName = HeaderName::from_static(header::LEDGER_HEIGHT);
/// Longest wait for `min_height`, for the leader, and for the certificate of a proof.
const WAIT: Duration = Duration::from_secs(10);
/// Records of one page, unless the request asks for fewer.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Entries of one page of a history: for each two rows of up to 1 MiB are read.
const HISTORY_PAGE_MAX: usize = 100;

/// Parameters of a read of one record.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ReadQuery {
    /// Waits until this node has reached the height.
    pub min_height: Option<u64>,
    /// Asks the leader first: the answer shows everything that was acknowledged before the request.
    #[serde(default)]
    pub linearizable: bool,
    /// Adds a proof bundle under the newest certificate.
    #[serde(default)]
    pub proof: bool,
    /// The height of the validators that the verifier of the proof trusts; 0, the genesis file, if
    /// absent.
    #[serde(default)]
    pub trusted: u64,
}

/// Parameters of a read of what is computed from records, and can't be proven.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ViewQuery {
    /// Waits until this node has reached the height.
    pub min_height: Option<u64>,
    /// Asks the leader first: the answer shows everything that was acknowledged before the request.
    #[serde(default)]
    pub linearizable: bool,
}

/// Parameters of a read of many records.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Waits until this node has reached the height.
    pub min_height: Option<u64>,
    /// Asks the leader first: the answer shows everything that was acknowledged before the request.
    #[serde(default)]
    pub linearizable: bool,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// 100 if absent. 0 is taken as 1, and a number above 1,000 as 1,000.
    #[param(value_type = Option<u64>)]
    pub limit: Option<usize>,
}

impl PageQuery {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }

    /// The cursor, parsed.
    pub fn after<T: FromStr>(&self) -> Result<Option<T>, ApiError> {
        self.after.as_deref().map(parse).transpose()
    }
}

/// Parses a part of a path or query.
pub fn parse<T: FromStr>(text: &str) -> Result<T, ApiError> {
    text.parse()
        .map_err(|_| ApiError::invalid(code::PARAMETER, format!("{text:?} is not understood")))
}

/// A consistent state that is not older than requested.
pub async fn view(
    app: &App,
    min_height: Option<u64>,
    linearizable: bool,
) -> Result<(View, HeadInfo), ApiError> {
    if linearizable {
        app.handle.wait_current(WAIT).await?;
    }
    if let Some(height) = min_height {
        app.handle.wait_height(height, WAIT).await?;
    }
    Ok(app.handle.view()?)
}

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

/// Middleware that adds the lowest possible height to each answer that does not name its height.
pub async fn add_ledger_height(State(app): State<App>, request: Request, next: Next) -> Response {
    // Read before the request is handled, so that the state in the answer is not older.
    let height = app.handle.head().height;
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(LEDGER_HEIGHT)
        .or_insert_with(|| HeaderValue::from(height));
    response
}

/// Does a read of one record or page, off the async threads: a slow disk delays nothing else.
pub async fn off_thread<T: Send + 'static>(
    app: &App,
    read: impl FnOnce() -> T + Send + 'static,
) -> T {
    app.handle.read_page(reader::account().as_ref(), read).await
}

/// Reads a page of a list. `list` gets the state, the `after` of the query and the limit; `cursor`
/// is the `after` that follows an item.
pub async fn page<T: Send + 'static, A: FromStr + Send + 'static>(
    app: &App,
    query: &PageQuery,
    list: impl FnOnce(&View, Option<&A>, usize) -> Result<Vec<T>, StateError> + Send + 'static,
    cursor: impl Fn(&T) -> String,
) -> Result<AtHeight<Page<T>>, ApiError> {
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let (after, limit) = (query.after::<A>()?, query.limit());
    let items = off_thread(app, move || list(&state, after.as_ref(), limit)).await?;
    Ok(AtHeight {
        height: head.height,
        body: Page::new(items, query.limit(), cursor),
    })
}

/// Reads one record of the state. `what` names it in the error when there is none. The last change
/// is that of `subject`, if there is one and the request asks for no proof.
pub async fn record<T: DeserializeOwned + Send + 'static>(
    app: &App,
    query: &ReadQuery,
    key: &Key<T>,
    what: impl Display,
    subject: Option<tables::Subject>,
) -> Result<AtHeight<RecordResponse<T>>, ApiError> {
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let missing = || ApiError::not_found(&what);
    let (wanted, subject) = (key.clone(), subject.filter(|_| !query.proof));
    let read = move || {
        let record = state.get(&wanted)?;
        let changed = subject.map(|subject| last_change(&state, &subject));
        Ok::<_, StateError>((record, changed.transpose()?.flatten()))
    };
    let (record, changed) = off_thread(app, read).await?;
    let record = record.ok_or_else(missing)?;
    if query.proof {
        let proven = proven_record(app, key, query.trusted).await?;
        return proven.ok_or_else(missing);
    }
    Ok(AtHeight {
        height: head.height,
        body: RecordResponse {
            record,
            changed,
            proof: None,
        },
    })
}

/// A record with its proof, of the height of the proof; `None` if it was deleted meanwhile.
async fn proven_record<T: DeserializeOwned>(
    app: &App,
    key: &Key<T>,
    trusted: u64,
) -> Result<Option<AtHeight<RecordResponse<T>>>, ApiError> {
    let subject = Subject::State(key.as_bytes().to_vec());
    let proof = prove(app, subject, trusted).await?;
    let RecordProof::State {
        value: Some(value), ..
    } = &proof.record
    else {
        return Ok(None);
    };
    let record = codec::decode_stored(&value.0).map_err(|source| {
        let (table, key) = ("a record that was read before", hex::encode(key.as_bytes()));
        StateError::Corrupt { table, key, source }
    })?;
    Ok(Some(AtHeight {
        height: proof.header().height,
        body: RecordResponse {
            record,
            changed: None,
            proof: Some(proof),
        },
    }))
}

fn last_change(
    state: &View,
    subject: &tables::Subject,
) -> Result<Option<RecordChange>, StateError> {
    let newest = tables::history(&**state.store(), subject, None, Direction::Backward, 1)?;
    Ok(newest.into_iter().next().map(|entry| RecordChange {
        time_ms: entry.authorship.time_ms,
        author: entry.authorship.author,
        key: entry.authorship.key,
        height: entry.height,
        transaction: entry.receipt.transaction,
    }))
}

fn history_entry(entry: tables::HistoryEntry) -> HistoryEntry {
    let tables::HistoryEntry {
        height,
        index,
        authorship,
        receipt,
    } = entry;
    HistoryEntry {
        cursor: Cursor { height, index },
        height,
        time_ms: authorship.time_ms,
        author: authorship.author,
        key: authorship.key,
        transaction: receipt.transaction,
        receipt,
    }
}

/// Reads the changes of a record, newest first, on a thread where a slow disk delays nothing else.
/// Histories are read in turns, so that consensus gets its time however many requests there are.
pub async fn history(
    app: &App,
    query: &PageQuery,
    subject: tables::Subject,
) -> Result<AtHeight<Page<HistoryEntry>>, ApiError> {
    let after = query.after::<Cursor>()?;
    let after = after.map(|cursor| (cursor.height, cursor.index));
    let limit = query.limit().min(HISTORY_PAGE_MAX);
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let read = move || {
        let store = &**state.store();
        tables::history(store, &subject, after, Direction::Backward, limit)
    };
    let entries = app
        .handle
        .read_in_turn(reader::account().as_ref(), read)
        .await?;
    let items = entries.into_iter().map(history_entry).collect();
    Ok(AtHeight {
        height: head.height,
        body: Page::new(items, limit, |entry: &HistoryEntry| {
            entry.cursor.to_string()
        }),
    })
}

/// Makes a proof when its block is certified, for a verifier with the validators of a height.
pub async fn prove(app: &App, subject: Subject, trusted: u64) -> Result<ProofBundle, ApiError> {
    Ok(app.handle.prove(subject, trusted, WAIT).await?)
}
