//! The outgoing stream: every notification since a cursor, then those to come. It reads what is on
//! disk and only waits for the head, so that a slow subscriber costs no memory and misses nothing.
//!
//! The chain may be long and a filter narrow, so it is read in bounded steps, off the async
//! threads, and the steps of all readers from outside take turns: however many there are, consensus
//! gets its time.

use std::sync::Arc;

use lamplighter_state::{StateError, tables};
pub use lamplighter_types::wire::{Cursor, CursorError, FeedEvent};
use lamplighter_types::{Block, Id, Notification};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::blocking::Blocking;
use crate::chain::{Chain, HeadInfo};

/// Blocks that are read in one step: a millisecond when they are small.
pub const BLOCKS_PER_STEP: u64 = 64;
/// A step ends with the block in which it has looked at so many notifications, so that it is as
/// short when blocks are large.
const NOTIFICATIONS_PER_STEP: usize = 1_024;
/// Steps of readers from outside that are at work at once; the others wait in the order in which
/// they came. Two leave the processor to consensus on a machine of four, and half of it on one of
/// two.
const STEPS_AT_ONCE: usize = 2;
/// A cursor may be so many blocks above what this node knows of: another node that was a little
/// ahead gave it.
pub const AHEAD_MAX: u64 = 64;

/// A cursor that no node of this ledger can have given: it is of another ledger, or of one that was
/// begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor {after} is ahead of this ledger, whose newest block is {height}")]
pub struct CursorAhead {
    pub after: Cursor,
    /// The newest block of this node.
    pub height: u64,
}

/// What one step found.
#[derive(Clone, Debug)]
pub struct Part {
    /// Those that are wanted, of one block; may be none.
    pub deliveries: Vec<FeedEvent>,
    /// The place to go on from: all up to here is delivered or not wanted.
    pub cursor: Cursor,
}

/// Whether a reader wants a notification.
pub type Filter = Arc<dyn Fn(&Notification) -> bool + Send + Sync>;

/// Where the readers of one node read.
pub(crate) struct Feeds {
    chain: Arc<Chain>,
    blocking: Blocking,
    /// The turns of readers from outside.
    turns: Arc<Semaphore>,
}

impl Feeds {
    pub fn new(chain: Arc<Chain>, blocking: Blocking) -> Self {
        let turns = Arc::new(Semaphore::new(STEPS_AT_ONCE));
        Self {
            chain,
            blocking,
            turns,
        }
    }

    /// For the node itself: everything after `after`, without waiting for a turn. From the next
    /// block on when it is `None`.
    pub fn own(&self, after: Option<Cursor>) -> Subscription {
        let head = self.chain.watch_head();
        let newest = Cursor::end_of(head.borrow().height);
        Subscription {
            chain: self.chain.clone(),
            blocking: self.blocking,
            turns: None,
            head,
            seen: after.unwrap_or(newest),
            filter: None,
        }
    }

    /// For a reader from outside. `highest` is the height that this node has been told of.
    pub fn outside(
        &self,
        after: Option<Cursor>,
        filter: Filter,
        highest: u64,
    ) -> Result<Subscription, CursorAhead> {
        let height = self.chain.head().height;
        let known = height.max(highest).saturating_add(AHEAD_MAX);
        if let Some(after) = after.filter(|after| after.height > known) {
            return Err(CursorAhead { after, height });
        }
        Ok(Subscription {
            turns: Some(self.turns.clone()),
            filter: Some(filter),
            ..self.own(after)
        })
    }

    /// Does a read for somebody outside in one of the same turns, off the async threads.
    pub async fn read_in_turn<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let turn = turn(&self.turns).await;
        let read = move || {
            // Held until it is over, also when nobody waits for it any more.
            let _turn = turn;
            read()
        };
        self.blocking.run(read).await
    }
}

async fn turn(turns: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let turn = turns.clone().acquire_owned().await;
    turn.expect("nobody closes the semaphore")
}

/// A subscriber's place in the stream.
pub struct Subscription {
    chain: Arc<Chain>,
    blocking: Blocking,
    turns: Option<Arc<Semaphore>>,
    head: watch::Receiver<HeadInfo>,
    /// All up to here is delivered or not wanted.
    seen: Cursor,
    filter: Option<Filter>,
}

impl Subscription {
    /// All up to here is delivered or not wanted.
    pub fn cursor(&self) -> Cursor {
        self.seen
    }

    /// Reads on, at most one step; waits for the next block when all are read. `None` when the
    /// node stops. A call that is given up or fails loses nothing: the next one reads the same.
    ///
    /// # Errors
    /// The chain can't be read.
    pub async fn next(&mut self) -> Result<Option<Part>, StateError> {
        let first = self.seen.next();
        let reached = self.head.wait_for(|head| head.height >= first.height);
        let Ok(newest) = reached.await.map(|head| head.height) else {
            return Ok(None);
        };
        // Others have their turn also where all work is done on this thread.
        tokio::task::yield_now().await;
        let turn = match &self.turns {
            Some(turns) => Some(turn(turns).await),
            None => None,
        };
        let (chain, filter) = (self.chain.clone(), self.filter.clone());
        let read = move || {
            // Held until the step is over, also when nobody waits for it any more.
            let _turn = turn;
            step(&chain, first, newest, filter.as_ref())
        };
        let part = self.blocking.run(read).await?;
        self.seen = part.cursor;
        Ok(Some(part))
    }
}

/// Reads blocks up to `newest` until one has something that is wanted, or the step is over.
fn step(
    chain: &Chain,
    first: Cursor,
    newest: u64,
    filter: Option<&Filter>,
) -> Result<Part, StateError> {
    let (mut next, mut looked_at) = (first, 0);
    let last = newest.min(first.height.saturating_add(BLOCKS_PER_STEP - 1));
    loop {
        let (deliveries, count) = of_block(chain, next, filter)?;
        looked_at += count;
        let over = next.height >= last || looked_at >= NOTIFICATIONS_PER_STEP;
        let cursor = Cursor::end_of(next.height);
        if over || !deliveries.is_empty() {
            return Ok(Part { deliveries, cursor });
        }
        next = cursor.next();
    }
}

/// What is wanted of a block from `first` on, and how many notifications the block has.
fn of_block(
    chain: &Chain,
    first: Cursor,
    filter: Option<&Filter>,
) -> Result<(Vec<FeedEvent>, usize), StateError> {
    let store = &*chain.store();
    let height = first.height;
    let mut wanted = Vec::new();
    let mut index: u32 = 0;
    for (receipt, of_block) in tables::receipts(store, height)?.into_iter().zip(0usize..) {
        for notification in receipt.notifications {
            let asked = filter.is_none_or(|wants| wants(&notification));
            if index >= first.index && asked {
                let cursor = Cursor { height, index };
                wanted.push((cursor, of_block, receipt.transaction, notification));
            }
            index = index.saturating_add(1);
        }
    }
    let count = index as usize;
    if wanted.is_empty() {
        return Ok((Vec::new(), count));
    }
    let block = tables::block(store, height)?.ok_or_else(|| StateError::Missing {
        what: format!("the block {height}, which has receipts,"),
    })?;
    let mut authors = Authors::new(&block);
    let deliver = |(cursor, receipt, transaction, notification)| {
        Ok(FeedEvent {
            cursor,
            time_ms: block.header.timestamp_ms,
            transaction,
            author: authors.of(receipt)?,
            notification,
        })
    };
    let deliveries: Result<_, StateError> = wanted.into_iter().map(deliver).collect();
    Ok((deliveries?, count))
}

/// Who signed the transactions of a block. A transaction may have thousands of notifications, one
/// after the other, and is decoded once.
struct Authors<'a> {
    block: &'a Block,
    last: Option<(usize, Id)>,
}

impl<'a> Authors<'a> {
    fn new(block: &'a Block) -> Self {
        Self { block, last: None }
    }

    /// The author of a receipt: that of the transaction with the same index. Receipts beyond the
    /// transactions are the block's own.
    fn of(&mut self, receipt: usize) -> Result<Option<Id>, StateError> {
        if let Some((_, author)) = self.last.as_ref().filter(|(known, _)| *known == receipt) {
            return Ok(Some(author.clone()));
        }
        let Some(transaction) = self.block.transactions.get(receipt) else {
            return Ok(None);
        };
        let height = self.block.header.height;
        let decoded = transaction
            .decode_payload()
            .map_err(|_| StateError::Missing {
                what: format!("the content of the transaction {height}.{receipt}"),
            })?;
        self.last = Some((receipt, decoded.sender.clone()));
        Ok(Some(decoded.sender))
    }
}

#[cfg(test)]
mod tests;
