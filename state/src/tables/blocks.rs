//! Blocks with their transactions, receipts and events.

use std::sync::Arc;

use lamplighter_store::{Cf, Direction, KvView, WriteBatch};
use lamplighter_types::{
    Block, EventRecord, Hash, Header, Receipt, SignedTransaction, Transaction, Verified,
};

use serde::de::DeserializeOwned;

use super::keys::{EVENTS, HEAD, HEADERS, PLACES, RECEIPTS, StoreTable, TRANSACTIONS};
use super::lists::{self, EncodedList};
use super::{device_terms, devices, feed, history, row};
use crate::{Changes, StateError};

/// The lists of a block as they are hashed and stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockLists {
    pub transactions: EncodedList,
    pub receipts: EncodedList,
    pub events: EncodedList,
}

impl BlockLists {
    /// Encodes the lists of a block.
    pub fn of(
        transactions: &[Arc<Verified<Transaction>>],
        receipts: &[Arc<Receipt>],
        events: &[EventRecord],
    ) -> Self {
        Self {
            transactions: EncodedList::of(transactions.iter().map(|t| &**t.envelope())),
            receipts: EncodedList::of(receipts.iter().map(|receipt| &**receipt)),
            events: EncodedList::of(events),
        }
    }
}

/// Adds a block with all its indexes, and makes it the head.
pub fn put_block(
    batch: &mut WriteBatch,
    header: &Header,
    transactions: &[Arc<Verified<Transaction>>],
    receipts: &[Arc<Receipt>],
    events: &[EventRecord],
) {
    let lists = BlockLists::of(transactions, receipts, events);
    put_encoded_block(batch, header, &lists, transactions, receipts, events);
}

/// Adds a block as [`put_block`] does, whose lists are encoded already.
pub fn put_encoded_block(
    batch: &mut WriteBatch,
    header: &Header,
    lists: &BlockLists,
    transactions: &[Arc<Verified<Transaction>>],
    receipts: &[Arc<Receipt>],
    events: &[EventRecord],
) {
    let height = header.height;
    row::put(batch, HEADERS, HEADERS.height(height), header);
    row::put(batch, HEAD, HEAD.only(), &height);
    lists::put(batch, TRANSACTIONS, height, &lists.transactions);
    for (transaction, index) in transactions.iter().zip(0u32..) {
        let key = PLACES.hash(&transaction.hash());
        row::put(batch, PLACES, key, &(height, index));
    }
    lists::put(batch, RECEIPTS, height, &lists.receipts);
    lists::put(batch, EVENTS, height, &lists.events);
    put_indexes(batch, header, receipts, events);
}

/// Adds the indexes of a block's records: its receipts by subject, its events by device, the block
/// by what its notifications are about, the devices that it saw.
pub fn put_indexes(
    batch: &mut WriteBatch,
    header: &Header,
    receipts: &[Arc<Receipt>],
    events: &[EventRecord],
) {
    let height = header.height;
    devices::put(batch, height, events);
    history::put(batch, height, receipts);
    feed::put(batch, height, receipts);
    let receipts = receipts.iter().map(|receipt| &**receipt);
    device_terms::put_seen(batch, header.timestamp_ms, receipts);
    device_terms::put_devices_indexed(batch, height);
}

/// Adds the changes of the state.
pub fn put_changes(batch: &mut WriteBatch, changes: &Changes) {
    for (key, value) in &changes.writes {
        match value {
            Some(value) => batch.put(Cf::State, key.clone(), value.clone()),
            None => batch.delete(Cf::State, key.clone()),
        }
    }
}

/// The header at `height`.
pub fn header(store: &dyn KvView, height: u64) -> Result<Option<Header>, StateError> {
    row::get(store, HEADERS, &HEADERS.height(height))
}

/// The headers at these heights, in their order.
pub(super) fn headers(
    store: &dyn KvView,
    heights: &[u64],
) -> Result<Vec<Option<Header>>, StateError> {
    let keys: Vec<_> = heights
        .iter()
        .map(|height| HEADERS.height(*height))
        .collect();
    row::get_many(store, HEADERS, &keys)
}

/// The hash of the header at `height`.
pub fn header_hash(store: &dyn KvView, height: u64) -> Result<Option<Hash>, StateError> {
    Ok(header(store, height)?.map(|header| header.hash()))
}

/// Up to `limit` headers, lowest first, above `height` if one is given.
pub fn headers_after(
    store: &dyn KvView,
    height: Option<u64>,
    limit: usize,
) -> Result<Vec<Header>, StateError> {
    let range = row::after(HEADERS.only(), height.map(|h| HEADERS.height(h)));
    let found = row::scan(store, HEADERS, range, Direction::Forward)?;
    found.take(limit).map(|row| Ok(row?.1)).collect()
}

/// Up to `limit` headers, highest first, below `height` if one is given.
pub fn headers_before(
    store: &dyn KvView,
    height: Option<u64>,
    limit: usize,
) -> Result<Vec<Header>, StateError> {
    let range = row::before(HEADERS.only(), height.map(|h| HEADERS.height(h)));
    let found = row::scan(store, HEADERS, range, Direction::Backward)?;
    found.take(limit).map(|row| Ok(row?.1)).collect()
}

/// The header and transactions at `height`.
pub fn block(store: &dyn KvView, height: u64) -> Result<Option<Block>, StateError> {
    let Some(header) = header(store, height)? else {
        return Ok(None);
    };
    let transactions = decode_all(TRANSACTIONS, height, encoded_transactions(store, height)?)?;
    Ok(Some(Block {
        header,
        transactions,
    }))
}

/// Transaction `index` of the block at `height`.
pub fn transaction(
    store: &dyn KvView,
    height: u64,
    index: u32,
) -> Result<Option<SignedTransaction>, StateError> {
    item(store, TRANSACTIONS, height, index)
}

/// Height and index of the transaction with the name `hash`; its receipt has the same.
pub fn transaction_place(
    store: &dyn KvView,
    hash: &Hash,
) -> Result<Option<(u64, u32)>, StateError> {
    row::get(store, PLACES, &PLACES.hash(hash))
}

/// Number of transactions that have a place.
pub fn count_places(store: &dyn KvView) -> Result<u64, StateError> {
    row::count(store, PLACES)
}

/// Receipt `index` of the block at `height`.
pub fn receipt(store: &dyn KvView, height: u64, index: u32) -> Result<Option<Receipt>, StateError> {
    item(store, RECEIPTS, height, index)
}

/// All receipts of the block at `height`: those of its transactions in their order, then its own,
/// if any.
pub fn receipts(store: &dyn KvView, height: u64) -> Result<Vec<Receipt>, StateError> {
    decode_all(RECEIPTS, height, encoded_receipts(store, height)?)
}

/// All event records of the block at `height`.
pub fn events(store: &dyn KvView, height: u64) -> Result<Vec<EventRecord>, StateError> {
    decode_all(EVENTS, height, encoded_events(store, height)?)
}

/// The encoded transactions of the block at `height`, as they were hashed.
pub fn encoded_transactions(store: &dyn KvView, height: u64) -> Result<Vec<Vec<u8>>, StateError> {
    lists::all(store, TRANSACTIONS, height)
}

/// The encoded receipts of the block at `height`, as they were hashed.
pub fn encoded_receipts(store: &dyn KvView, height: u64) -> Result<Vec<Vec<u8>>, StateError> {
    lists::all(store, RECEIPTS, height)
}

/// The encoded event records of the block at `height`, as they were hashed.
pub fn encoded_events(store: &dyn KvView, height: u64) -> Result<Vec<Vec<u8>>, StateError> {
    lists::all(store, EVENTS, height)
}

/// One item of a list, decoded.
fn item<T: DeserializeOwned>(
    store: &dyn KvView,
    table: StoreTable,
    height: u64,
    index: u32,
) -> Result<Option<T>, StateError> {
    Ok(items(store, table, &[(height, index)], |_, item| Ok(item))?
        .pop()
        .flatten())
}

/// Items of lists by height and index, in the order of the places, or the part that `keep` returns.
pub(super) fn items<T: DeserializeOwned, K>(
    store: &dyn KvView,
    table: StoreTable,
    places: &[(u64, u32)],
    mut keep: impl FnMut((u64, u32), T) -> Result<K, StateError>,
) -> Result<Vec<Option<K>>, StateError> {
    lists::get_many(store, table, places, |place, bytes| {
        keep(
            place,
            row::decode(table, &table.item(place.0, place.1), bytes)?,
        )
    })
}

fn decode_all<T: DeserializeOwned>(
    table: StoreTable,
    height: u64,
    items: Vec<Vec<u8>>,
) -> Result<Vec<T>, StateError> {
    let decode =
        |(index, item): (u32, Vec<u8>)| row::decode(table, &table.item(height, index), &item);
    (0u32..).zip(items).map(decode).collect()
}
