//! The search for blocks that may have what a reader wants, in the index by notification.

use lamplighter_state::tables::{self, FeedKey};
use lamplighter_state::{StateError, tables::next_feed_block};
use lamplighter_store::{Durability, Kv, KvView, WriteBatch};

/// Look-ups of one step: each costs a few microseconds, and as much as a small block.
const LOOKUPS_PER_STEP: usize = 256;
/// Keys of one search. With more, e.g. of an account with that many districts, reading each block
/// costs less.
const KEYS_MAX: usize = 64;
/// Bytes of one write while the index is made for blocks that are older than it.
const BUILD_BATCH_BYTES: usize = 4 << 20;
/// Blocks between two lines in the log while it is made.
const BUILD_REPORT_BLOCKS: u64 = 100_000;

/// The blocks to read: those with a notification under at least one key of each group. Without
/// groups they are all blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockSearch {
    groups: Vec<Vec<FeedKey>>,
}

/// The next block to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextBlock {
    At(u64),
    /// There is none up to the end of the search.
    None,
    /// There is none below this height; the search stopped there, as the step is over.
    NoneBelow(u64),
}

impl BlockSearch {
    pub fn new(groups: Vec<Vec<FeedKey>>) -> Self {
        let keys: usize = groups.iter().map(Vec::len).sum();
        let groups = if keys > KEYS_MAX { Vec::new() } else { groups };
        Self { groups }
    }

    /// Finds the next block from `from` up to `until`. `lookups` counts what a step has cost.
    pub fn next(
        &self,
        store: &dyn KvView,
        from: u64,
        until: u64,
        lookups: &mut usize,
    ) -> Result<NextBlock, StateError> {
        let mut height = from;
        loop {
            let begin = height;
            for group in &self.groups {
                *lookups += group.len();
                match first_of(store, group, height, until)? {
                    Some(found) => height = found,
                    None => return Ok(NextBlock::None),
                }
            }
            if height == begin {
                return Ok(NextBlock::At(height));
            }
            if *lookups >= LOOKUPS_PER_STEP {
                return Ok(NextBlock::NoneBelow(height));
            }
        }
    }
}

/// The first block with a notification under any of the keys.
fn first_of(
    store: &dyn KvView,
    keys: &[FeedKey],
    from: u64,
    until: u64,
) -> Result<Option<u64>, StateError> {
    let mut first = None;
    for key in keys {
        // A later block than the one that is found already is of no use.
        let until = first.unwrap_or(until);
        first = next_feed_block(store, key, from, until)?.or(first);
    }
    Ok(first)
}

/// Makes the index for the blocks that it lacks: all blocks of a store that is older than the
/// index, or those that an older program added. A crash loses nothing: each write has the blocks
/// after those before it.
pub(crate) fn complete(kv: &dyn Kv, head: u64) -> Result<(), StateError> {
    let indexed = tables::feed_indexed(kv)?;
    let first = indexed.map_or(0, |indexed| indexed.saturating_add(1));
    if first > head {
        return Ok(());
    }
    tracing::info!(first, head, "the index of notifications is made");
    let mut batch = WriteBatch::new();
    for height in first..=head {
        tables::index_feed_block(kv, &mut batch, height)?;
        if batch.size_bytes() >= BUILD_BATCH_BYTES {
            kv.write(std::mem::take(&mut batch), Durability::Unsynced)?;
        }
        if height > first && height.is_multiple_of(BUILD_REPORT_BLOCKS) {
            tracing::info!(height, head, "the index of notifications is being made");
        }
    }
    kv.write(batch, Durability::Unsynced)?;
    tracing::info!(head, "the index of notifications is complete");
    Ok(())
}
