//! The lists of a block (transactions, receipts, events), several items to a row.
//!
//! A row for each of up to a hundred thousand items in a block would cost more than the items; a
//! single row for all would have to be read whole for each item. So a row holds up to
//! [`ROW_ITEMS_MAX`] items under the index of the first.

use lamplighter_store::{Direction, KeyRange, KvView, WriteBatch};
use lamplighter_types::HexBytes;

use super::keys::{StoreTable, last_item};
use super::row;
use crate::StateError;

/// Number of items in one row.
pub(super) const ROW_ITEMS_MAX: usize = 64;
/// Bytes of items at which a row ends, so that no row comes near the limit of the codec.
pub(super) const ROW_BYTES_MAX: usize = 1024 * 1024;

/// Adds the encoded items of the block at `height`.
pub(super) fn put(batch: &mut WriteBatch, table: StoreTable, height: u64, items: Vec<Vec<u8>>) {
    let (mut first, mut row, mut bytes) = (0, Vec::new(), 0);
    for (index, item) in items.into_iter().enumerate() {
        bytes += item.len();
        row.push(HexBytes(item));
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

/// Item `index` of the block at `height`.
pub(super) fn get(
    store: &dyn KvView,
    table: StoreTable,
    height: u64,
    index: u32,
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
