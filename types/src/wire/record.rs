use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::{Hash, Id, ProofBundle, PublicKey, Receipt};

/// A part of a list, and where the next part begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `after` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` items; a full one has a next page.
    pub fn new(items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let next = items.last().filter(|_| items.len() >= limit).map(cursor);
        Self { items, next }
    }
}

/// One record, its last change, and its proof if the request asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecordResponse<T> {
    pub record: T,
    /// The last change. Absent beside a proof, which does not cover it, and where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<RecordChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofBundle>,
}

/// The author, time and transaction of a record's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecordChange {
    /// Block time, Unix ms.
    pub time_ms: u64,
    /// The account that signed; null when the block's time alone was the cause.
    pub author: Option<Id>,
    /// The key that signed; null when the block's time alone was the cause.
    pub key: Option<PublicKey>,
    /// Height of the block.
    pub height: u64,
    /// Zero when the block's time alone was the cause.
    pub transaction: Hash,
}

/// One change of a record, in its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryEntry {
    /// `height.index`, the position of the receipt.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub cursor: Cursor,
    pub height: u64,
    /// Block time, Unix ms.
    pub time_ms: u64,
    /// The account that signed; null when the block's time alone was the cause.
    pub author: Option<Id>,
    /// The key that signed; null when the block's time alone was the cause.
    pub key: Option<PublicKey>,
    /// Zero when the block's time alone was the cause.
    pub transaction: Hash,
    /// The receipt, with the notifications about this record only.
    pub receipt: Receipt,
}
