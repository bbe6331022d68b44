//! Reading and writing single rows.

use bytes::Bytes;
use lamplighter_store::{Direction, KeyRange, KvView, WriteBatch, get_each};
use lamplighter_types::codec::{self, CodecError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys::StoreTable;
use crate::StateError;

pub(super) fn put<T: Serialize>(
    batch: &mut WriteBatch,
    table: StoreTable,
    key: Vec<u8>,
    record: &T,
) {
    batch.put(table.cf, key, codec::encode(record));
}

pub(super) fn get<T: DeserializeOwned>(
    store: &dyn KvView,
    table: StoreTable,
    key: &[u8],
) -> Result<Option<T>, StateError> {
    let bytes = store.get(table.cf, key)?;
    bytes.map(|bytes| decode(table, key, &bytes)).transpose()
}

/// The rows under these keys, in their order.
pub(super) fn get_many<T: DeserializeOwned>(
    store: &dyn KvView,
    table: StoreTable,
    keys: &[Vec<u8>],
) -> Result<Vec<Option<T>>, StateError> {
    let mut rows = Vec::with_capacity(keys.len());
    get_each(store, table.cf, keys, |number, bytes| {
        let decode = |bytes: Bytes| decode(table, &keys[number], &bytes);
        rows.push(bytes.map(decode).transpose()?);
        Ok::<_, StateError>(())
    })?;
    Ok(rows)
}

/// The rows of a range in order; the range lies inside the table.
pub(super) fn scan<'a, T: DeserializeOwned + 'a>(
    store: &'a dyn KvView,
    table: StoreTable,
    range: KeyRange,
    direction: Direction,
) -> Result<impl Iterator<Item = Result<(Vec<u8>, T), StateError>> + 'a, StateError> {
    let entries = store.scan(table.cf, range, direction)?;
    Ok(entries.map(move |entry| {
        let (key, value) = entry?;
        let record = decode(table, &key, &value)?;
        Ok((key.to_vec(), record))
    }))
}

/// Number of rows in a table.
pub(super) fn count(store: &dyn KvView, table: StoreTable) -> Result<u64, StateError> {
    let mut count = 0;
    for row in store.scan(table.cf, whole(table), Direction::Forward)? {
        row?;
        count += 1;
    }
    Ok(count)
}

/// All keys of a table.
pub(super) fn whole(table: StoreTable) -> KeyRange {
    KeyRange::prefix(table.prefix)
}

/// The keys that begin with `prefix`, after the key `after` if one is given.
pub(super) fn after(prefix: Vec<u8>, after: Option<Vec<u8>>) -> KeyRange {
    let mut range = KeyRange::prefix(prefix);
    if let Some(mut after) = after {
        after.push(0);
        range.start = after.into();
    }
    range
}

/// The keys that begin with `prefix`, before the key `before` if one is given.
pub(super) fn before(prefix: Vec<u8>, before: Option<Vec<u8>>) -> KeyRange {
    let mut range = KeyRange::prefix(prefix);
    if let Some(before) = before {
        range.end = Some(before.into());
    }
    range
}

pub(super) fn decode<T: DeserializeOwned>(
    table: StoreTable,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, StateError> {
    codec::decode_stored(bytes).map_err(|source| corrupt(table, key, source))
}

/// The decoded part of a key, or the error that the key is damaged.
pub(super) fn read_key<T>(table: StoreTable, key: &[u8], read: Option<T>) -> Result<T, StateError> {
    let wanted = "key";
    read.ok_or_else(|| corrupt(table, key, CodecError::NotCanonical { wanted }))
}

pub(super) fn corrupt(table: StoreTable, key: &[u8], source: CodecError) -> StateError {
    StateError::Corrupt {
        table: table.name,
        key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
        source,
    }
}
