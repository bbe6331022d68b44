//! The parts that all reads share: the state that they show, its height in the answer, pages,
//! histories and proofs.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lamplighter_ledger::{HeadInfo, Subject};
use lamplighter_state::{Key, StateError, View, tables};
use lamplighter_store::Direction;
use lamplighter_types::codec;
use lamplighter_types::limits::NUMBER_MAX;
use lamplighter_types::proof::{ProofBundle, RecordProof};
use lamplighter_types::wire::{Cursor, HistoryEntry, Page, RecordChange, RecordResponse, header};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::App;
use super::error::{ApiError, code};
use super::reader;
use crate::rights::{Concern, Kind, Record, Rights, RightsAt};

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

/// The rights of an account at a state, for records of a kind.
pub async fn rights_at<'a>(
    app: &App,
    rights: &'a Rights,
    state: &'a View,
    kind: Kind,
) -> Result<RightsAt<'a>, ApiError> {
    let at = rights.at(state);
    if let Some(gateway) = rights.gateway_for(kind).cloned() {
        let (view, account) = (state.clone(), gateway.clone());
        let look = move || Concern::of(&view, &gateway);
        at.set_concern(app.handle.read_in_turn(Some(&account), look).await?);
    }
    Ok(at)
}

/// Refuses to show a record to an account whose rights do not reach it.
pub async fn require(
    app: &App,
    rights: &Rights,
    state: &View,
    record: &Record<'_>,
) -> Result<(), ApiError> {
    let at = rights_at(app, rights, state, record.kind()).await?;
    if at.allows(record)? {
        return Ok(());
    }
    Err(outside())
}

/// The refusal of a record that the account may not read.
pub fn outside() -> ApiError {
    let detail = "this account may not read this record; the table of rights is in docs/api.md";
    ApiError::new(StatusCode::FORBIDDEN, code::READ_SCOPE, detail)
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

/// Does a read likewise, which decides about records of a kind: a long one if all devices of a
/// gateway have to be looked at for that.
async fn read_for<T: Send + 'static>(
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

/// A list, and how its items are shown.
pub struct List<T, A, L, C> {
    /// Gets the state, the place after which to begin, and the limit.
    pub list: L,
    /// The place of an item.
    pub place: fn(&T) -> A,
    /// The place as the `after` of a query.
    pub cursor: C,
    pub kind: Kind,
    /// The record of an item that decides about its readers.
    pub record: for<'a> fn(&'a T) -> Record<'a>,
}

/// Reads a page of a list.
pub async fn page<T, A, L, C>(
    app: &App,
    query: &PageQuery,
    rights: &Rights,
    list: List<T, A, L, C>,
) -> Result<AtHeight<Page<T>>, ApiError>
where
    T: Send + 'static,
    A: FromStr + Send + 'static,
    L: Fn(&View, Option<&A>, usize) -> Result<Vec<T>, StateError> + Send + 'static,
    C: Fn(&T) -> String + Send + 'static,
{
    let after = query.after()?;
    page_after(app, query, rights, after, list).await
}

/// Reads a page of a list after a place.
pub async fn page_after<T, A, L, C>(
    app: &App,
    query: &PageQuery,
    rights: &Rights,
    after: Option<A>,
    list: List<T, A, L, C>,
) -> Result<AtHeight<Page<T>>, ApiError>
where
    T: Send + 'static,
    A: Send + 'static,
    L: Fn(&View, Option<&A>, usize) -> Result<Vec<T>, StateError> + Send + 'static,
    C: Fn(&T) -> String + Send + 'static,
{
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let (kind, limit, readable) = (list.kind, query.limit(), rights.clone());
    let read = move || readable_page(&state, &readable.at(&state), limit, after, &list);
    let body = read_for(app, rights, kind, read).await?;
    Ok(AtHeight {
        height: head.height,
        body,
    })
}

/// The items of a list that an account may read. After so many rows the page ends, be it empty, and
/// its `next` leads on.
fn readable_page<T, A, L, C>(
    state: &View,
    rights: &RightsAt<'_>,
    limit: usize,
    mut after: Option<A>,
    list: &List<T, A, L, C>,
) -> Result<Page<T>, StateError>
where
    L: Fn(&View, Option<&A>, usize) -> Result<Vec<T>, StateError>,
    C: Fn(&T) -> String,
{
    let mut page = Page {
        items: Vec::new(),
        next: None,
    };
    let mut rows = 0;
    loop {
        let read = (list.list)(state, after.as_ref(), limit)?;
        let is_last = read.len() < limit;
        rows += read.len();
        let mut next = None;
        for item in read {
            next = Some((list.cursor)(&item));
            after = Some((list.place)(&item));
            if rights.allows(&(list.record)(&item))? {
                page.items.push(item);
            }
            if page.items.len() == limit {
                page.next = next;
                return Ok(page);
            }
        }
        if is_last {
            return Ok(page);
        }
        if rows >= PAGE_MAX {
            page.next = next;
            return Ok(page);
        }
    }
}

/// A record to be read.
pub struct Read<'a, T, W> {
    pub key: &'a Key<T>,
    /// Its name, for the error when there is none.
    pub what: W,
    /// The subject of its last change, which is shown if the request asks for no proof.
    pub subject: Option<tables::Subject>,
}

/// Reads one record of the state. `readers` is the record that decides who may.
pub async fn record<T: DeserializeOwned + Send + 'static>(
    app: &App,
    query: &ReadQuery,
    rights: &Rights,
    Read { key, what, subject }: Read<'_, T, impl Display>,
    readers: impl for<'a> Fn(&'a T) -> Record<'a> + Send + 'static,
) -> Result<AtHeight<RecordResponse<T>>, ApiError> {
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let missing = || ApiError::not_found(&what);
    let (wanted, subject) = (key.clone(), subject.filter(|_| !query.proof));
    let readable = rights.clone();
    let read = move || {
        let Some(record) = state.get(&wanted)? else {
            return Ok(None);
        };
        let allowed = readable.at(&state).allows(&readers(&record))?;
        let changed = subject.map(|subject| last_change(&state, &subject));
        Ok::<_, StateError>(Some((record, allowed, changed.transpose()?.flatten())))
    };
    // The longest turn that the record may need: what decides about it is in the record.
    let found = read_for(app, rights, Kind::Config, read).await?;
    let (record, allowed, changed) = found.ok_or_else(missing)?;
    if !allowed {
        return Err(outside());
    }
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

/// Reads one record of the state, about whose readers another record decides.
pub async fn record_for<T: DeserializeOwned + Send + 'static>(
    app: &App,
    query: &ReadQuery,
    rights: &Rights,
    read: Read<'_, T, impl Display>,
    readers: &Record<'_>,
) -> Result<AtHeight<RecordResponse<T>>, ApiError> {
    let (state, _) = view(app, query.min_height, query.linearizable).await?;
    if state.get(read.key)?.is_some() {
        require(app, rights, &state, readers).await?;
    }
    record(app, query, rights, read, |_| Record::Common).await
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
    rights: &Rights,
    subject: tables::Subject,
) -> Result<AtHeight<Page<HistoryEntry>>, ApiError> {
    let after = query.after::<Cursor>()?;
    let after = after.map(|cursor| (cursor.height, cursor.index));
    let limit = query.limit().min(HISTORY_PAGE_MAX);
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    require(app, rights, &state, &Record::of_history(&subject)).await?;
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
