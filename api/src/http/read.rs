//! What all reads share: the state they see, its height in the answer, pages, and proofs.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lamplighter_ledger::{Cursor, HeadInfo, Subject};
use lamplighter_state::{StateError, View, tables};
use lamplighter_store::Direction;
use lamplighter_types::proof::{ProofBundle, RecordProof};
use lamplighter_types::{Hash, Id, PublicKey, Receipt, codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::App;
use super::problem::Problem;

/// The height of which an answer is.
pub const LEDGER_HEIGHT: HeaderName = HeaderName::from_static("ledger-height");
/// How long a read waits for `min_height`, for the leader, and for the certificate of a proof.
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
    /// 100 if absent; others are taken as the nearest of these.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

impl PageQuery {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }

    /// The cursor, parsed.
    pub fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Problem> {
        self.after.as_deref().map(parse).transpose()
    }
}

/// Reads a part of a path or query.
pub fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid("parameter", format!("{text:?} is not understood")))
}

/// A consistent state, not older than asked for.
pub async fn view(
    app: &App,
    min_height: Option<u64>,
    linearizable: bool,
) -> Result<(View, HeadInfo), Problem> {
    if linearizable {
        app.handle.wait_current(WAIT).await?;
    }
    if let Some(height) = min_height {
        app.handle.wait_height(height, WAIT).await?;
    }
    Ok(app.handle.view()?)
}

/// An answer that says of which height it is.
pub struct At<T> {
    pub height: u64,
    pub body: T,
}

/// Says in every answer of which height it is at least, unless the answer says it of itself.
pub async fn height(State(app): State<App>, request: Request, next: Next) -> Response {
    // Taken before anything is read: what is answered is not older.
    let height = app.handle.head().height;
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(LEDGER_HEIGHT)
        .or_insert_with(|| HeaderValue::from(height));
    response
}

impl<T: Serialize> IntoResponse for At<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        response
            .headers_mut()
            .insert(LEDGER_HEIGHT, HeaderValue::from(self.height));
        response
    }
}

/// One record, who changed it last, and its proof if it was asked for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct One<T> {
    pub record: T,
    /// The last change. Absent beside a proof, which does not cover it, and where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Change>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofBundle>,
}

/// Some records, and where to go on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `after` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` items; a full one has a next.
    pub fn new(items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let next = items.last().filter(|_| items.len() >= limit).map(cursor);
        Self { items, next }
    }
}

/// Finishes the read of one record of the state. With a proof the record is the proven one: a block
/// may have changed it since `record` was read.
pub async fn one<T: DeserializeOwned>(
    app: &App,
    query: &ReadQuery,
    head: HeadInfo,
    record: Option<T>,
    what: impl std::fmt::Display,
    key: &[u8],
) -> Result<At<One<T>>, Problem> {
    let record = record.ok_or_else(|| Problem::not_found(&what))?;
    if !query.proof {
        let proof = None;
        return Ok(At {
            height: head.height,
            body: One {
                record,
                changed: None,
                proof,
            },
        });
    }
    let proof = prove(app, Subject::State(key.to_vec())).await?;
    let RecordProof::State {
        value: Some(value), ..
    } = &proof.record
    else {
        return Err(Problem::not_found(what));
    };
    let record = codec::decode_stored(&value.0).map_err(|source| {
        let (table, key) = ("a record that was read before", hex::encode(key));
        StateError::Corrupt { table, key, source }
    })?;
    Ok(At {
        height: proof.header().height,
        body: One {
            record,
            changed: None,
            proof: Some(proof),
        },
    })
}

/// Who changed a record, when, and by what.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Change {
    /// Block time, Unix ms.
    time_ms: u64,
    /// The account that signed; null when the block's time alone was the cause.
    author: Option<Id>,
    /// The key that signed; null as the author is.
    key: Option<PublicKey>,
    /// Of the block.
    height: u64,
    /// Zero when the block's time alone was the cause.
    transaction: Hash,
}

impl<T> At<One<T>> {
    /// Adds who changed the record last.
    pub fn with_change(mut self, state: &View, subject: &tables::Subject) -> Result<Self, Problem> {
        if self.body.proof.is_none() {
            self.body.changed = last_change(state, subject)?;
        }
        Ok(self)
    }
}

fn last_change(state: &View, subject: &tables::Subject) -> Result<Option<Change>, StateError> {
    let newest = tables::history(&**state.store(), subject, None, Direction::Backward, 1)?;
    Ok(newest.into_iter().next().map(|entry| Change {
        time_ms: entry.authorship.time_ms,
        author: entry.authorship.author,
        key: entry.authorship.key,
        height: entry.height,
        transaction: entry.receipt.transaction,
    }))
}

/// One change of a record.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HistoryEntry {
    /// `height.index`, the place of the receipt.
    cursor: String,
    height: u64,
    /// Block time, Unix ms.
    time_ms: u64,
    /// The account that signed; null when the block's time alone was the cause.
    author: Option<Id>,
    /// The key that signed; null as the author is.
    key: Option<PublicKey>,
    /// Zero when the block's time alone was the cause.
    transaction: Hash,
    /// With the notifications about this record only.
    receipt: Receipt,
}

impl From<tables::HistoryEntry> for HistoryEntry {
    fn from(entry: tables::HistoryEntry) -> Self {
        let tables::HistoryEntry {
            height,
            index,
            authorship,
            receipt,
        } = entry;
        Self {
            cursor: Cursor { height, index }.to_string(),
            height,
            time_ms: authorship.time_ms,
            author: authorship.author,
            key: authorship.key,
            transaction: receipt.transaction,
            receipt,
        }
    }
}

/// The changes of a record, newest first, read where a slow disk holds up nobody else, and in turn:
/// however many ask, consensus gets its time.
pub async fn history(
    app: &App,
    query: &PageQuery,
    subject: tables::Subject,
) -> Result<At<Page<HistoryEntry>>, Problem> {
    let after = query.after::<Cursor>()?;
    let after = after.map(|cursor| (cursor.height, cursor.index));
    let limit = query.limit().min(HISTORY_PAGE_MAX);
    let (state, head) = view(app, query.min_height, query.linearizable).await?;
    let read = move || {
        let store = &**state.store();
        tables::history(store, &subject, after, Direction::Backward, limit)
    };
    let found = app.handle.read_in_turn(read).await?;
    let items = found.into_iter().map(HistoryEntry::from).collect();
    Ok(At {
        height: head.height,
        body: Page::new(items, limit, |e: &HistoryEntry| e.cursor.clone()),
    })
}

/// A proof, made when it is certified.
pub async fn prove(app: &App, subject: Subject) -> Result<ProofBundle, Problem> {
    Ok(app.handle.prove(subject, WAIT).await?)
}
