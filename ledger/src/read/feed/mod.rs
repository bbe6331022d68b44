//! The feed: every notification since a cursor, then those to come. It reads from disk and only
//! waits for the head, so that a slow subscriber costs no memory and misses nothing.
//!
//! The chain may be long and a filter narrow, so it is read in bounded steps, off the async
//! threads, and few steps of outside readers run at once: however many readers there are, consensus
//! gets its time.

use std::sync::Arc;

use lamplighter_state::{StateError, tables};
pub use lamplighter_types::wire::{Cursor, CursorError, FeedEvent};
use lamplighter_types::{Block, Id, Notification};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::blocking::Blocking;
use crate::chain::{Chain, HeadInfo};

/// Blocks of one step: a millisecond when they are small.
pub const BLOCKS_PER_STEP: u64 = 64;
/// Notifications after which a step ends with the current block, so that it is as short when blocks
/// are large.
const NOTIFICATIONS_PER_STEP: usize = 1_024;
/// Steps of outside readers that run at once; the others wait in the order of their arrival. Two
/// leave most of a machine of four processors to consensus, and half of one of two.
const STEPS_AT_ONCE: usize = 2;
/// Blocks that a cursor may be above all that this node has seen: a node that is a little ahead may
/// have given it.
pub const AHEAD_MAX: u64 = 64;

/// A cursor that no node of this ledger can have given: it is of another ledger, or of one that was
/// started again from its genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor {after} is ahead of this ledger, whose newest block is {height}")]
pub struct CursorAhead {
    pub after: Cursor,
    /// The newest block of this node.
    pub height: u64,
}

/// The result of one step.
#[derive(Clone, Debug)]
pub struct FeedStep {
    /// The matching notifications of one block; may be none.
    pub events: Vec<FeedEvent>,
    /// The position to continue from: everything up to it is in this step or an earlier one, or
    /// does not match.
    pub cursor: Cursor,
}

/// Returns whether a notification matches.
pub type NotificationFilter = Arc<dyn Fn(&Notification) -> bool + Send + Sync>;

/// Opens the subscriptions of one node.
pub(crate) struct Feed {
    chain: Arc<Chain>,
    blocking: Blocking,
    /// Permits for the steps of outside readers.
    permits: Arc<Semaphore>,
}

impl Feed {
    pub fn new(chain: Arc<Chain>, blocking: Blocking) -> Self {
        Self {
            chain,
            blocking,
            permits: Arc::new(Semaphore::new(STEPS_AT_ONCE)),
        }
    }

    /// A subscription of the node itself, to all notifications after a cursor; from the next block
    /// on when it is `None`. It waits for no permit.
    pub fn subscribe(&self, after: Option<Cursor>) -> Subscription {
        let head = self.chain.watch_head();
        let newest = Cursor::end_of(head.borrow().height);
        Subscription {
            chain: self.chain.clone(),
            blocking: self.blocking,
            permits: None,
            head,
            position: after.unwrap_or(newest),
            filter: None,
        }
    }

    /// A subscription of an outside reader. `peer_height` is the highest height that a peer
    /// reported.
    pub fn follow(
        &self,
        after: Option<Cursor>,
        filter: NotificationFilter,
        peer_height: u64,
    ) -> Result<Subscription, CursorAhead> {
        let height = self.chain.head().height;
        let height_max = height.max(peer_height).saturating_add(AHEAD_MAX);
        if let Some(after) = after.filter(|after| after.height > height_max) {
            return Err(CursorAhead { after, height });
        }
        Ok(Subscription {
            permits: Some(self.permits.clone()),
            filter: Some(filter),
            ..self.subscribe(after)
        })
    }

    /// Does a read for an outside reader under one of the same permits, off the async threads.
    pub async fn read_in_turn<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let permit = acquire(&self.permits).await;
        let read = move || {
            // Held until the read ends, even if the caller stops waiting.
            let _permit = permit;
            read()
        };
        self.blocking.run(read).await
    }
}

async fn acquire(permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = permits.clone().acquire_owned().await;
    permit.expect("the semaphore is never closed")
}

/// A subscriber's position in the feed.
pub struct Subscription {
    chain: Arc<Chain>,
    blocking: Blocking,
    /// None for the node itself.
    permits: Option<Arc<Semaphore>>,
    head: watch::Receiver<HeadInfo>,
    /// Everything up to here was returned or does not match.
    position: Cursor,
    filter: Option<NotificationFilter>,
}

impl Subscription {
    /// Everything up to here was returned or does not match.
    pub fn cursor(&self) -> Cursor {
        self.position
    }

    /// Reads at most one step; waits for the next block when all are read. Returns `None` when the
    /// node stops. A call that is dropped or fails loses nothing: the next one reads the same.
    ///
    /// # Errors
    /// The chain can't be read.
    pub async fn next(&mut self) -> Result<Option<FeedStep>, StateError> {
        let first = self.position.next();
        let reached = self.head.wait_for(|head| head.height >= first.height);
        let Ok(newest) = reached.await.map(|head| head.height) else {
            return Ok(None);
        };
        // Other tasks run between two steps even if all work is done on this thread.
        tokio::task::yield_now().await;
        let permit = match &self.permits {
            Some(permits) => Some(acquire(permits).await),
            None => None,
        };
        let (chain, filter) = (self.chain.clone(), self.filter.clone());
        let read = move || {
            // Held until the step ends, even if the caller stops waiting.
            let _permit = permit;
            read_step(&chain, first, newest, filter.as_ref())
        };
        let step = self.blocking.run(read).await?;
        self.position = step.cursor;
        Ok(Some(step))
    }
}

/// Reads blocks up to `newest` until one has a match, or the step is over.
fn read_step(
    chain: &Chain,
    first: Cursor,
    newest: u64,
    filter: Option<&NotificationFilter>,
) -> Result<FeedStep, StateError> {
    let (mut next, mut examined) = (first, 0);
    let last = newest.min(first.height.saturating_add(BLOCKS_PER_STEP - 1));
    loop {
        let (events, count) = read_block(chain, next, filter)?;
        examined += count;
        let over = next.height >= last || examined >= NOTIFICATIONS_PER_STEP;
        let cursor = Cursor::end_of(next.height);
        if over || !events.is_empty() {
            return Ok(FeedStep { events, cursor });
        }
        next = cursor.next();
    }
}

/// The matches in a block from `first` on, and the number of the block's notifications.
fn read_block(
    chain: &Chain,
    first: Cursor,
    filter: Option<&NotificationFilter>,
) -> Result<(Vec<FeedEvent>, usize), StateError> {
    let store = &*chain.store();
    let height = first.height;
    let mut matches = Vec::new();
    let mut index: u32 = 0;
    for (receipt, number) in tables::receipts(store, height)?.into_iter().zip(0usize..) {
        for notification in receipt.notifications {
            let is_match = filter.is_none_or(|filter| filter(&notification));
            if index >= first.index && is_match {
                let cursor = Cursor { height, index };
                matches.push((cursor, number, receipt.transaction, notification));
            }
            index = index.saturating_add(1);
        }
    }
    let count = index as usize;
    if matches.is_empty() {
        return Ok((Vec::new(), count));
    }
    let block = tables::block(store, height)?.ok_or_else(|| StateError::Missing {
        what: format!("the block {height}, which has receipts,"),
    })?;
    let mut authors = Authors::new(&block);
    let event = |(cursor, receipt, transaction, notification)| {
        Ok(FeedEvent {
            cursor,
            time_ms: block.header.timestamp_ms,
            transaction,
            author: authors.of_receipt(receipt)?,
            notification,
        })
    };
    let events: Result<_, StateError> = matches.into_iter().map(event).collect();
    Ok((events?, count))
}

/// The signers of a block's transactions. A transaction may have thousands of notifications in
/// sequence, and is decoded once.
struct Authors<'a> {
    block: &'a Block,
    /// The receipt asked for last, and its author.
    last: Option<(usize, Id)>,
}

impl<'a> Authors<'a> {
    fn new(block: &'a Block) -> Self {
        Self { block, last: None }
    }

    /// The author of a receipt: that of the transaction with the same index. Receipts beyond the
    /// transactions are those of the block itself.
    fn of_receipt(&mut self, receipt: usize) -> Result<Option<Id>, StateError> {
        if let Some((_, author)) = self.last.as_ref().filter(|(last, _)| *last == receipt) {
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
