//! The feed: every notification since a cursor, then those to come. It reads from disk and only
//! waits for the head, so that a slow subscriber costs no memory and misses nothing.
//!
//! The chain may be long and a filter narrow, so it is read in bounded steps, off the async
//! threads, and few steps of outside readers run at once ([`turns`]): however many readers there
//! are, consensus gets its time. A filter by kind, device or district skips the blocks that have
//! nothing for it ([`index`]).

mod index;
mod recent;
mod turns;

use std::sync::Arc;
use std::time::Instant;

use lamplighter_state::tables::FeedKey;
use lamplighter_state::{StateError, tables};
use lamplighter_store::KvView;
pub use lamplighter_types::wire::{Cursor, CursorError, FeedEvent};
use lamplighter_types::{Block, Id, Notification};
use tokio::sync::watch;

use crate::blocking::Blocking;
use crate::chain::{Chain, HeadInfo};

pub(crate) use index::complete as complete_index;
use index::{BlockSearch, NextBlock};
use recent::{RecentBlocks, matching};
use turns::{AccountTurns, ReadTurns};

/// Blocks of one step: a millisecond when they are small.
pub const BLOCKS_PER_STEP: u64 = 64;
/// Notifications after which a step ends with the current block, so that it is as short when blocks
/// are large.
const NOTIFICATIONS_PER_STEP: usize = 1_024;
/// Most long reads of outside readers that run at once: steps of the feed and histories.
const LONG_READS_MAX: usize = 2;
/// Short reads of outside readers that run at once, each of one record or page. They may wait for
/// the disk.
const SHORT_READS_AT_ONCE: usize = 8;
/// Blocks that a cursor may be above all that this node has seen: a node that is a little ahead may
/// have given it.
pub const AHEAD_MAX: u64 = 64;

/// Long reads of outside readers that run at once: on half of the processors at most, so that the
/// others are left to consensus and to short requests.
pub fn long_reads_at_once() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, LONG_READS_MAX)
}

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
    turns: Arc<ReadTurns>,
    /// The turns of short reads, which do not wait among the long ones.
    short_turns: ReadTurns,
    recent: Arc<RecentBlocks>,
}

impl Feed {
    pub fn new(chain: Arc<Chain>, blocking: Blocking) -> Self {
        Self {
            chain,
            blocking,
            turns: Arc::new(ReadTurns::new(long_reads_at_once())),
            short_turns: ReadTurns::new(SHORT_READS_AT_ONCE),
            recent: Arc::default(),
        }
    }

    /// A subscription of the node itself, to all notifications after a cursor; from the next block
    /// on when it is `None`. It waits for no turn.
    pub fn subscribe(&self, after: Option<Cursor>) -> Subscription {
        let head = self.chain.watch_head();
        let newest = Cursor::end_of(head.borrow().height);
        Subscription {
            chain: self.chain.clone(),
            blocking: self.blocking,
            recent: self.recent.clone(),
            all_turns: self.turns.clone(),
            turns: None,
            head,
            position: after.unwrap_or(newest),
            filter: None,
            search: BlockSearch::default(),
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
            turns: Some(self.turns.of(None)),
            filter: Some(filter),
            ..self.subscribe(after)
        })
    }

    /// Does a long read for an account, or for a reader without one, when it has its turn, off the
    /// async threads.
    pub async fn read_in_turn<T: Send + 'static>(
        &self,
        account: Option<&Id>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.read_with(self.turns.of(account), read).await
    }

    /// Does a read of one page or record likewise.
    pub async fn read_page<T: Send + 'static>(
        &self,
        account: Option<&Id>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.read_with(self.short_turns.of(account), read).await
    }

    async fn read_with<T: Send + 'static>(
        &self,
        turns: AccountTurns,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let turn = turns.acquire().await;
        let read = move || {
            // Held until the read ends, even if the caller stops waiting.
            let _turn = turn;
            read()
        };
        self.blocking.run(read).await
    }
}

/// A subscriber's position in the feed.
pub struct Subscription {
    chain: Arc<Chain>,
    blocking: Blocking,
    recent: Arc<RecentBlocks>,
    all_turns: Arc<ReadTurns>,
    /// None for the node itself.
    turns: Option<AccountTurns>,
    head: watch::Receiver<HeadInfo>,
    /// Everything up to here was returned or does not match.
    position: Cursor,
    filter: Option<NotificationFilter>,
    search: BlockSearch,
}

impl Subscription {
    /// Reads in the turns of an account.
    #[must_use]
    pub fn for_account(mut self, account: Option<&Id>) -> Self {
        self.turns = Some(self.all_turns.of(account));
        self
    }

    /// Returns only what matches. Nothing else is copied for this subscription.
    #[must_use]
    pub fn matching(mut self, filter: NotificationFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Skips blocks by the index. Everything that the filter matches must be under at least one key
    /// of each group.
    #[must_use]
    pub fn indexed_by(mut self, groups: Vec<Vec<FeedKey>>) -> Self {
        self.search = BlockSearch::new(groups);
        self
    }

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
        if let Some(step) = self.step_in_memory(first, newest) {
            self.position = step.cursor;
            return Ok(Some(step));
        }
        let turn = match &self.turns {
            Some(turns) => Some(turns.acquire().await),
            None => None,
        };
        let recent = self.recent.clone();
        let (chain, filter) = (self.chain.clone(), self.filter.clone());
        let search = self.search.clone();
        let read = move || {
            let begin = Instant::now();
            let source = BlockSource {
                chain: &chain,
                recent: &recent,
                newest,
            };
            let step = read_step(&source, &search, first, filter.as_ref());
            // The turn is held until here, even if the caller stops waiting.
            (step, turn, begin.elapsed())
        };
        let (step, turn, took) = self.blocking.run(read).await;
        if let (Some(turn), Blocking::Threads) = (turn, self.blocking) {
            turn.rest(took);
        }
        let step = step?;
        self.position = step.cursor;
        Ok(Some(step))
    }
}

impl Subscription {
    /// The step of the newest block, if it is the next one and in memory. A subscription of the
    /// node itself needs no thread for it.
    fn step_in_memory(&self, first: Cursor, newest: u64) -> Option<FeedStep> {
        if self.turns.is_some() || first.height != newest {
            return None;
        }
        let events = self.recent.get(first.height)?;
        Some(FeedStep {
            events: matching(&events, first, |event| {
                is_match(self.filter.as_ref(), &event.notification)
            }),
            cursor: Cursor::end_of(first.height),
        })
    }
}

fn is_match(filter: Option<&NotificationFilter>, notification: &Notification) -> bool {
    filter.is_none_or(|filter| filter(notification))
}

/// The blocks up to the newest one.
struct BlockSource<'a> {
    chain: &'a Chain,
    recent: &'a RecentBlocks,
    newest: u64,
}

impl BlockSource<'_> {
    /// The matches in a block from `first` on, and the number of the block's notifications.
    fn read(
        &self,
        store: &dyn KvView,
        first: Cursor,
        filter: Option<&NotificationFilter>,
    ) -> Result<(Vec<FeedEvent>, usize), StateError> {
        let height = first.height;
        if !RecentBlocks::keeps(height, self.newest) {
            return read_block(store, first, filter);
        }
        let begin = Cursor { height, index: 0 };
        let read = || read_block(store, begin, None).map(|(events, _)| events);
        let events = self.recent.get_or_read(height, read)?;
        let matches = matching(&events, first, |event| {
            is_match(filter, &event.notification)
        });
        Ok((matches, events.len()))
    }
}

/// Reads blocks up to `newest` until one has a match, or the step is over.
fn read_step(
    source: &BlockSource<'_>,
    search: &BlockSearch,
    first: Cursor,
    filter: Option<&NotificationFilter>,
) -> Result<FeedStep, StateError> {
    let (store, newest) = (&*source.chain.store(), source.newest);
    let skipped = |cursor| FeedStep {
        events: Vec::new(),
        cursor,
    };
    let (mut next, mut lookups, mut blocks, mut examined) = (first, 0, 0, 0);
    loop {
        match search.next(store, next.height, newest, &mut lookups)? {
            NextBlock::None => return Ok(skipped(Cursor::end_of(newest))),
            // It is above `next`: no block is skipped unseen, and each step advances.
            NextBlock::NoneBelow(height) => return Ok(skipped(Cursor::end_of(height - 1))),
            NextBlock::At(height) if height > next.height => {
                next = Cursor::end_of(height - 1).next();
            }
            NextBlock::At(_) => {}
        }
        let (events, count) = source.read(store, next, filter)?;
        examined += count;
        blocks += 1;
        let over = blocks >= BLOCKS_PER_STEP || examined >= NOTIFICATIONS_PER_STEP;
        let cursor = Cursor::end_of(next.height);
        if over || next.height >= newest || !events.is_empty() {
            return Ok(FeedStep { events, cursor });
        }
        next = cursor.next();
    }
}

/// The matches in a block from `first` on, and the number of the block's notifications.
fn read_block(
    store: &dyn KvView,
    first: Cursor,
    filter: Option<&NotificationFilter>,
) -> Result<(Vec<FeedEvent>, usize), StateError> {
    let height = first.height;
    let mut matches = Vec::new();
    let mut index: u32 = 0;
    for (receipt, number) in tables::receipts(store, height)?.into_iter().zip(0usize..) {
        for notification in receipt.notifications {
            if index >= first.index && is_match(filter, &notification) {
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
        let sender = transaction
            .stored_sender()
            .map_err(|_| StateError::Missing {
                what: format!("the content of the transaction {height}.{receipt}"),
            })?;
        self.last = Some((receipt, sender.clone()));
        Ok(Some(sender))
    }
}

#[cfg(test)]
mod tests;
