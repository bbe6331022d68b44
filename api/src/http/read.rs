//! The parts that all reads share: the state that they show, its height in the answer, pages,
//! histories and proofs.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use lamplighter_ledger::{HeadInfo, Subject};
use lamplighter_state::{Key, StateError, View, tables};
use lamplighter_store::Direction;
use lamplighter_types::codec;
use lamplighter_types::limits::NUMBER_MAX;
use lamplighter_types::proof::{ProofBundle, RecordProof};
use lamplighter_types::wire::{Cursor, HistoryEntry, Page, RecordChange, RecordResponse};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::App;
pub use super::answer::{AtHeight, JsonAt, LEDGER_HEIGHT};
use super::error::{ApiError, code};
pub use super::list::{List, page, page_after};
use super::reader;
use crate::rights::{Kind, Record, Rights, RightsAt};

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
    #[serde(default, deserialize_with = "read_limit")]
    pub limit: Option<usize>,
}

/// Reads a limit; no number of the API is above 2^53 - 1.
pub fn read_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let limit = u64::deserialize(deserializer)?;
    if limit > NUMBER_MAX {
        return Err(D::Error::custom(format!("limit is above {NUMBER_MAX}")));
    }
    Ok(Some(usize::try_from(limit).unwrap_or(PAGE_MAX)))
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

/// Refuses to show a record to an account whose rights do not reach it. On an async thread only for
/// records about whose readers the account alone decides: nothing is looked up for them.
pub fn require(rights: &Rights, state: &View, record: &Record<'_>) -> Result<(), ApiError> {
    if rights.at(state).allows(record)? {
        return Ok(());
    }
    Err(outside())
}

/// Refuses to show what belongs to a record to an account whose rights do not reach it.
pub async fn require_of(
    app: &App,
    rights: &Rights,
    state: &View,
    subject: &tables::Subject,
) -> Result<(), ApiError> {
    let kind = Record::of_history(subject).kind();
    let (state, readable, subject) = (state.clone(), rights.clone(), subject.clone());
    let decide = move || readable.at(&state).allows(&Record::of_history(&subject));
    if read_for(app, rights, kind, decide).await? {
        return Ok(());
    }
    Err(outside())
}

/// The refusal of a record that the account may not read.
pub fn outside() -> ApiError {
    let detail = "this account may not read this record; the table of rights is in docs/api.md";
    ApiError::new(StatusCode::FORBIDDEN, code::READ_SCOPE, detail)
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

/// Does a read likewise, which decides about records of a kind: a long one if all devices of a
/// gateway have to be looked at for that.
pub async fn read_for<T: Send + 'static>(
    app: &App,
    rights: &Rights,
    kind: Kind,
    read: impl FnOnce() -> T + Send + 'static,
) -> T {
    match rights.gateway_for(kind) {
        Some(gateway) => app.handle.read_in_turn(Some(gateway), read).await,
        None => off_thread(app, read).await,
    }
}

/// A record to be read.
pub struct Read<'a, T, W> {
    pub key: &'a Key<T>,
    /// The kind of the record that decides who may: what is long for one kind is not for another.
    pub kind: Kind,
    /// Its name, for the error when there is none.
    pub what: W,
    /// The subject of its last change, which is shown if the request asks for no proof.
    pub subject: Option<tables::Subject>,
}

/// Reads one record of the state. `readers` is the record that decides who may.
pub async fn record<T: DeserializeOwned + Serialize + Send + 'static>(
    app: &App,
    query: &ReadQuery,
    rights: &Rights,
    read: Read<'_, T, impl Display + Send + 'static>,
    readers: impl for<'a> Fn(&'a T) -> Record<'a> + Send + 'static,
) -> Result<JsonAt<RecordResponse<T>>, ApiError> {
    let decide = move |rights: &RightsAt<'_>, record: &T| rights.allows(&readers(record));
    decided_record(app, query, rights, read, decide).await
}

/// Reads one record of the state, about whose readers another record decides.
pub async fn record_of<T: DeserializeOwned + Serialize + Send + 'static>(
    app: &App,
    query: &ReadQuery,
    rights: &Rights,
    read: Read<'_, T, impl Display + Send + 'static>,
    readers: tables::Subject,
) -> Result<JsonAt<RecordResponse<T>>, ApiError> {
    let decide = move |rights: &RightsAt<'_>, _: &T| rights.allows(&Record::of_history(&readers));
    decided_record(app, query, rights, read, decide).await
}

async fn decided_record<T: DeserializeOwned + Serialize + Send + 'static>(
    app: &App,
    query: &ReadQuery,
    rights: &Rights,
    read: Read<'_, T, impl Display + Send + 'static>,
    decide: impl Fn(&RightsAt<'_>, &T) -> Result<bool, StateError> + Send + 'static,
) -> Result<JsonAt<RecordResponse<T>>, ApiError> {
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let missing = ApiError::not_found(&read.what);
    let (key, proof, readable) = (read.key.clone(), query.proof, rights.clone());
    let subject = read.subject.filter(|_| !proof);
    let find = move || {
        let record = state
            .get(&key)?
            .ok_or_else(|| ApiError::not_found(&read.what))?;
        if !decide(&readable.at(&state), &record)? {
            return Err(outside());
        }
        if proof {
            return Ok(None);
        }
        let changed = subject.map(|subject| last_change(&state, &subject));
        let response = RecordResponse {
            record,
            changed: changed.transpose()?.flatten(),
            proof: None,
        };
        JsonAt::new(head.height, &response).map(Some)
    };
    match read_for(app, rights, read.kind, find).await? {
        Some(found) => Ok(found),
        None => {
            let proven = proven_record(app, read.key, query.trusted).await?;
            proven.ok_or(missing)
        }
    }
}

/// A record with its proof, of the height of the proof; `None` if it was deleted meanwhile.
async fn proven_record<T: DeserializeOwned + Serialize + Send + 'static>(
    app: &App,
    key: &Key<T>,
    trusted: u64,
) -> Result<Option<JsonAt<RecordResponse<T>>>, ApiError> {
    let subject = Subject::State(key.as_bytes().to_vec());
    let proof = app.handle.prove(subject, trusted, WAIT).await?;
    let key = key.as_bytes().to_vec();
    off_thread(app, move || {
        let RecordProof::State {
            value: Some(value), ..
        } = &proof.record
        else {
            return Ok(None);
        };
        let record: T = codec::decode_stored(&value.0).map_err(|source| {
            let (table, key) = ("a record that was read before", hex::encode(key));
            StateError::Corrupt { table, key, source }
        })?;
        let height = proof.header().height;
        let response = RecordResponse {
            record,
            changed: None,
            proof: Some(proof),
        };
        JsonAt::new(height, &response).map(Some)
    })
    .await
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
    rights: &Rights,
    subject: tables::Subject,
) -> Result<JsonAt<Page<HistoryEntry>>, ApiError> {
    let after = query.after::<Cursor>()?;
    let after = after.map(|cursor| (cursor.height, cursor.index));
    let limit = query.limit().min(HISTORY_PAGE_MAX);
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    require_of(app, rights, &state, &subject).await?;
    let read = move || {
        let store = &**state.store();
        let entries = tables::history(store, &subject, after, Direction::Backward, limit)?;
        let items = entries.into_iter().map(history_entry).collect();
        let page = Page::new(items, limit, |entry: &HistoryEntry| {
            entry.cursor.to_string()
        });
        JsonAt::new(head.height, &page)
    };
    app.handle
        .read_in_turn(reader::account().as_ref(), read)
        .await
}

/// Makes a proof when its block is certified, for a verifier with the validators of a height.
pub async fn prove(
    app: &App,
    subject: Subject,
    trusted: u64,
) -> Result<JsonAt<ProofBundle>, ApiError> {
    let height = app.handle.head().height;
    let proof = app.handle.prove(subject, trusted, WAIT).await?;
    off_thread(app, move || JsonAt::new(height, &proof)).await
}
