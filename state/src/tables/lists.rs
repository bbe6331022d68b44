//! The lists of a block (transactions, receipts, events), several items to a row.
//!
//! A row for each of up to a hundred thousand items in a block would cost more than the items; a
//! single row for all would have to be read whole for each item. So a row holds up to
//! [`ROW_ITEMS_MAX`] items under the index of the first.

use std::collections::BTreeMap;

use lamplighter_store::{Direction, KeyRange, KvView, WriteBatch, get_each};
use lamplighter_types::codec::CodecError;
use lamplighter_types::{HexBytes, codec};
use serde::{Serialize, Serializer};

use super::keys::{StoreTable, last_item};
use super::row;
use crate::StateError;

/// Number of items in one row.
pub(super) const ROW_ITEMS_MAX: usize = 64;
/// Bytes of items at which a row ends, so that no row comes near the limit of the codec.
pub(super) const ROW_BYTES_MAX: usize = 1024 * 1024;

/// One list of a block, each item encoded once: the root in the header and the rows are of the same
/// bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedList {
    bytes: Vec<u8>,
    /// The end of each item.
    ends: Vec<usize>,
}

impl EncodedList {
    /// Encodes the items in their order.
    pub fn of<'a, T: Serialize + 'a>(items: impl IntoIterator<Item = &'a T>) -> Self {
        let mut list = Self::default();
        for item in items {
            codec::with_encoded(item, |encoded| list.bytes.extend_from_slice(encoded));
            list.ends.push(list.bytes.len());
        }
        list
    }

    /// The encoded items in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let ranges = starts.zip(&self.ends);
        ranges.map(|(start, end)| &self.bytes[*start..*end])
    }
}

/// An item in a row, which has the encoding of [`HexBytes`].
struct RowItem<'a>(&'a [u8]);

impl Serialize for RowItem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Adds a list of the block at `height`.
pub(super) fn put(batch: &mut WriteBatch, table: StoreTable, height: u64, list: &EncodedList) {
    let (mut first, mut row, mut bytes) = (0, Vec::with_capacity(ROW_ITEMS_MAX), 0);
    for (index, item) in list.iter().enumerate() {
        bytes += item.len();
        row.push(RowItem(item));
        if row.len() == ROW_ITEMS_MAX || bytes >= ROW_BYTES_MAX {
            row::put(batch, table, table.item(height, first), &row);
            (first, bytes) = (index as u32 + 1, 0);
            row.clear();
        }
    }
    if !row.is_empty() {
        row::put(batch, table, table.item(height, first), &row);
    }
}

/// Items of lists of the table by height and index, in the order of the places, as `read` returns
/// them. Each row is read once, some rows at a time, and nothing else of it is kept.
pub(super) fn get_many<T>(
    store: &dyn KvView,
    table: StoreTable,
    places: &[(u64, u32)],
    mut read: impl FnMut((u64, u32), &[u8]) -> Result<T, StateError>,
) -> Result<Vec<Option<T>>, StateError> {
    let mut wanted: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (number, place) in places.iter().enumerate() {
        let key = likely_row(table, *place);
        wanted.entry(key).or_default().push(number);
    }
    let (keys, numbers): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    let mut items: Vec<Option<T>> = places.iter().map(|_| None).collect();
    get_each(store, table.cf, &keys, |row, bytes| {
        for number in &numbers[row] {
            let place = places[*number];
            let at = (place.1 as usize) % ROW_ITEMS_MAX;
            let found = bytes.as_deref().map(|bytes| find_in_row(bytes, at));
            let found = found.transpose();
            items[*number] = match found.map_err(|e| row::corrupt(table, &keys[row], e))? {
                Some(InRow::Item(item)) => Some(read(place, item)?),
                Some(InRow::EndOfList) => None,
                Some(InRow::EndOfRow) | None => {
                    let item = search(store, table, place)?;
                    item.map(|item| read(place, &item)).transpose()?
                }
            };
        }
        Ok::<_, StateError>(())
    })?;
    Ok(items)
}

/// The row that an item is in if no row before it was cut short for its bytes.
fn likely_row(table: StoreTable, (height, index): (u64, u32)) -> Vec<u8> {
    table.item(height, index - index % ROW_ITEMS_MAX as u32)
}

/// What a row has at a place.
enum InRow<'a> {
    Item(&'a [u8]),
    /// The row was cut short for its bytes: others may follow.
    EndOfRow,
    /// The row has place for more, so the list ends there.
    EndOfList,
}

fn find_in_row(row: &[u8], at: usize) -> Result<InRow<'_>, CodecError> {
    let items = codec::byte_strings(row)?;
    if let Some(item) = items.get(at) {
        return Ok(InRow::Item(item));
    }
    let bytes: usize = items.iter().map(|item| item.len()).sum();
    let is_cut = items.len() >= ROW_ITEMS_MAX || bytes >= ROW_BYTES_MAX;
    Ok(if is_cut {
        InRow::EndOfRow
    } else {
        InRow::EndOfList
    })
}

/// Searches an item in the last row that begins at it or before it.
fn search(
    store: &dyn KvView,
    table: StoreTable,
    (height, index): (u64, u32),
) -> Result<Option<Vec<u8>>, StateError> {
    let mut after = table.item(height, index);
    after.push(0);
    let range = KeyRange::between(table.item(height, 0), after);
    let mut rows = row::scan::<Vec<HexBytes>>(store, table, range, Direction::Backward)?;
    let Some((key, mut items)) = rows.next().transpose()? else {
        return Ok(None);
    };
    let (_, first) = row::read_key(table, &key, last_item(&key))?;
    let at = (index - first) as usize;
    Ok((at < items.len()).then(|| items.swap_remove(at).0))
}

/// All items of the block at `height`.
pub(super) fn all(
    store: &dyn KvView,
    table: StoreTable,
    height: u64,
) -> Result<Vec<Vec<u8>>, StateError> {
    let range = KeyRange::prefix(table.height(height));
    let mut all = Vec::new();
    for row in row::scan::<Vec<HexBytes>>(store, table, range, Direction::Forward)? {
        let (key, items) = row?;
        let (_, first) = row::read_key(table, &key, last_item(&key))?;
        let in_place = usize::try_from(first).is_ok_and(|first| first == all.len());
        row::read_key(table, &key, in_place.then_some(()))?;
        all.extend(items.into_iter().map(|item| item.0));
    }
    Ok(all)
}
