//! The log's rows in the store.

use std::ops::{Bound, RangeBounds};

use lamplighter_store::{Cf, Direction, KeyRange, Kv, StoreError};
use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageIOError};

use super::PURGED;
use super::chain::{AuthoredEntry, ChainLink, LinkedStatement, LogDigest, StoredEntry};
use super::received::ReceivedStatements;
use crate::NodeId;
use crate::statement::LeaderStatement;
use crate::type_config::RaftLogEntry;
use crate::types::StorageError;

pub(super) fn key(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// The last entry, and the record of the last purge.
pub(super) type LogEnds = (Option<bytes::Bytes>, Option<bytes::Bytes>);

pub(super) fn find_ends(kv: &dyn Kv) -> Result<LogEnds, StoreError> {
    let mut entries = kv.scan(Cf::Log, KeyRange::all(), Direction::Backward)?;
    let last = entries.next().transpose()?.map(|(_, value)| value);
    Ok((last, kv.get(Cf::Meta, PURGED)?))
}

pub(super) fn read_entries(
    kv: &dyn Kv,
    start: u64,
    end: u64,
    bytes_max: usize,
) -> Result<Vec<RaftLogEntry>, AnyError> {
    let range = KeyRange::between(key(start), key(end));
    let scan = kv
        .scan(Cf::Log, range, Direction::Forward)
        .map_err(|error| AnyError::new(&error))?;
    let mut entries = Vec::new();
    let mut bytes = 0usize;
    for found in scan {
        let (_, value) = found.map_err(|error| AnyError::new(&error))?;
        bytes = bytes.saturating_add(value.len());
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        let stored = StoredEntry::decode(value).map_err(|error| AnyError::new(&error))?;
        entries.push(stored.entry);
    }
    Ok(entries)
}

pub(crate) fn storage_error<E: std::error::Error + 'static>(
    subject: ErrorSubject<u64>,
    verb: ErrorVerb,
    error: &E,
) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}

pub(super) fn bounds(range: impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

/// One entry as it is stored.
pub(super) fn read_stored(kv: &dyn Kv, index: u64) -> Result<Option<StoredEntry>, StoreError> {
    let value = kv.get(Cf::Log, &key(index))?;
    value.map(decode).transpose()
}

/// The digests from `start` to `end`, this one included, which follow each other without a gap.
pub(super) fn read_digests(
    kv: &dyn Kv,
    start: u64,
    end: u64,
) -> Result<Vec<(u64, LogDigest)>, StoreError> {
    let range = KeyRange::between(key(start), key(end.saturating_add(1)));
    let scan = kv.scan(Cf::Log, range, Direction::Forward)?;
    let digest = |stored: StoredEntry| (stored.entry.log_id.index, stored.digest);
    scan.map(|row| decode(row?.1).map(digest)).collect()
}

/// The entries from `start` to `end`, this one included, as they are signed.
pub(super) fn read_authored(
    kv: &dyn Kv,
    start: u64,
    end: u64,
) -> Result<Vec<AuthoredEntry>, StoreError> {
    let range = KeyRange::between(key(start), key(end.saturating_add(1)));
    let scan = kv.scan(Cf::Log, range, Direction::Forward)?;
    scan.map(|row| decode(row?.1).map(|stored| AuthoredEntry::from(&stored)))
        .collect()
}

/// What leaders signed about the last entries of the log.
pub(super) fn read_received(
    kv: &dyn Kv,
    entries_max: usize,
) -> Result<ReceivedStatements, StoreError> {
    let mut received = ReceivedStatements::default();
    let scan = kv.scan(Cf::Log, KeyRange::all(), Direction::Backward)?;
    for row in scan.take(entries_max) {
        received.add_entry(&decode(row?.1)?);
    }
    Ok(received)
}

/// The first statement of a leadership at an entry from `start` on, with the digest at `start` and
/// the links from there; none if there is none within `links_max` entries.
pub(super) fn read_statement_from(
    kv: &dyn Kv,
    start: u64,
    leadership: (u64, NodeId),
    links_max: usize,
) -> Result<Option<LinkedStatement>, StoreError> {
    let scan = kv.scan(
        Cf::Log,
        KeyRange::starting_at(key(start)),
        Direction::Forward,
    )?;
    let mut base = None;
    let mut links = Vec::new();
    for row in scan.take(links_max) {
        let stored = decode(row?.1)?;
        if stored.entry.log_id.leader_id.term > leadership.0 {
            // A later leader made this entry: no statement of the earlier one follows.
            return Ok(None);
        }
        if base.is_none() {
            if stored.entry.log_id.index != start {
                return Ok(None);
            }
            base = Some(stored.digest);
        } else {
            links.push(ChainLink::of(&stored.entry));
        }
        let is_of = |s: &LeaderStatement| (s.term, s.leader) == leadership;
        if let (Some(statement), Some(base)) = (stored.statements().find(is_of), base) {
            return Ok(Some(LinkedStatement {
                base,
                links,
                statement,
            }));
        }
    }
    Ok(None)
}

fn decode(value: bytes::Bytes) -> Result<StoredEntry, StoreError> {
    StoredEntry::decode(value).map_err(|error| StoreError::Corrupt {
        path: "the log".into(),
        what: error.to_string(),
        source: None,
    })
}
