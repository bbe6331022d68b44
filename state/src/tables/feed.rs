//! The index of blocks by what their notifications are about, for readers of the feed with a narrow
//! filter: a row for each kind, device and district (also those around it) that a block's
//! notifications name. It follows from the receipts and is part of no proof.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_store::{Direction, KvView, WriteBatch};
use lamplighter_types::{Fact, Id, Receipt, Scope};

use super::keys::{FEED_BLOCKS, FEED_INDEXED, last_number};
use super::row;
use crate::StateError;

/// What a notification can be found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeedKey {
    /// The name of its fact, e.g. `device_registered`.
    Kind(String),
    Device(Id),
    /// Its district, or one around it.
    District(Scope),
}

/// Adds a block to the index. Blocks come in their order.
pub(super) fn put(batch: &mut WriteBatch, height: u64, receipts: &[Arc<Receipt>]) {
    let mut kinds = Vec::new();
    let mut keys = Vec::new();
    let mut districts = BTreeSet::new();
    for notification in receipts.iter().flat_map(|receipt| &receipt.notifications) {
        // The name of a kind is costly to find.
        let kind = std::mem::discriminant::<Fact>(&notification.fact);
        if !kinds.contains(&kind) {
            kinds.push(kind);
            keys.push(FeedKey::Kind(notification.fact.kind()));
        }
        if let Some(place) = &notification.place {
            keys.push(FeedKey::Device(place.device.clone()));
            if districts.insert(&place.district) {
                keys.extend(place.district.ancestry().into_iter().map(FeedKey::District));
            }
        }
    }
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        row::put(
            batch,
            FEED_BLOCKS,
            FEED_BLOCKS.feed_block(&key, height),
            &(),
        );
    }
    row::put(batch, FEED_INDEXED, FEED_INDEXED.only(), &height);
}

/// The first block from `from` up to `until` with a notification under a key.
pub fn next_feed_block(
    store: &dyn KvView,
    key: &FeedKey,
    from: u64,
    until: u64,
) -> Result<Option<u64>, StateError> {
    let range = FEED_BLOCKS.feed_blocks(key, from, until);
    let mut found = row::scan::<()>(store, FEED_BLOCKS, range, Direction::Forward)?;
    let Some(found) = found.next() else {
        return Ok(None);
    };
    let (key, ()) = found?;
    row::read_key(FEED_BLOCKS, &key, last_number(&key)).map(Some)
}

/// The height up to which the index has all blocks; none before the genesis block, and in a store
/// that is older than the index.
pub fn feed_indexed(store: &dyn KvView) -> Result<Option<u64>, StateError> {
    row::get(store, FEED_INDEXED, &FEED_INDEXED.only())
}

/// Adds a block that is stored to the index, after all below it.
pub fn index_feed_block(
    store: &dyn KvView,
    batch: &mut WriteBatch,
    height: u64,
) -> Result<(), StateError> {
    let receipts = super::receipts(store, height)?;
    let receipts: Vec<_> = receipts.into_iter().map(Arc::new).collect();
    put(batch, height, &receipts);
    Ok(())
}
