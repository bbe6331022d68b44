//! The outgoing stream: every notification since a cursor, then those to come. It reads what is on
//! disk and only waits for the head, so that a slow subscriber costs no memory and misses nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lamplighter_state::{StateError, tables};
use lamplighter_types::{Hash, Notification};
use tokio::sync::watch;

use crate::chain::{Chain, HeadInfo};

/// A place in the stream: the height, and the number of the notification in its block, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub height: u64,
    pub index: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.height, self.index)
    }
}

/// Not of the form `height.index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor has the form height.index")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (height, index) = text.split_once('.').ok_or(CursorError)?;
        let height = height.parse().map_err(|_| CursorError)?;
        let index = index.parse().map_err(|_| CursorError)?;
        Ok(Self { height, index })
    }
}

/// One notification of the stream.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub cursor: Cursor,
    /// Block time, Unix ms.
    pub time_ms: u64,
    /// The transaction it came from; zero when the block itself was the cause.
    pub transaction: Hash,
    pub notification: Notification,
}

/// A subscriber's place in the stream.
pub struct Subscription {
    chain: Arc<Chain>,
    head: watch::Receiver<HeadInfo>,
    /// Delivered next.
    next: Cursor,
}

impl Subscription {
    /// Everything after `after`; from the next block on when it is `None`.
    pub(crate) fn new(chain: Arc<Chain>, after: Option<Cursor>) -> Self {
        let head = chain.watch_head();
        let next = match after {
            Some(Cursor { height, index }) => Cursor {
                height,
                index: index.saturating_add(1),
            },
            None => Cursor {
                height: head.borrow().height + 1,
                index: 0,
            },
        };
        Self { chain, head, next }
    }

    /// Everything from `first` on.
    pub(crate) fn starting_at(chain: Arc<Chain>, first: Cursor) -> Self {
        let head = chain.watch_head();
        Self {
            chain,
            head,
            next: first,
        }
    }

    /// The notifications of the next block that has any; waits for it. `None` when the node stops.
    pub async fn next(&mut self) -> Result<Option<Vec<Delivery>>, StateError> {
        loop {
            while self.next.height <= self.head.borrow_and_update().height {
                let deliveries = self.of_block()?;
                self.next = Cursor {
                    height: self.next.height + 1,
                    index: 0,
                };
                if !deliveries.is_empty() {
                    return Ok(Some(deliveries));
                }
            }
            if self.head.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    fn of_block(&self) -> Result<Vec<Delivery>, StateError> {
        let Cursor {
            height,
            index: first,
        } = self.next;
        let store = &*self.chain.store();
        let Some(header) = tables::header(store, height)? else {
            return Ok(Vec::new());
        };
        let receipts = tables::receipts(store, height)?;
        let all = receipts.into_iter().flat_map(|receipt| {
            let transaction = receipt.transaction;
            receipt
                .notifications
                .into_iter()
                .map(move |n| (transaction, n))
        });
        let numbered = all.zip(0u32..).filter(|(_, index)| *index >= first);
        let deliveries = numbered.map(|((transaction, notification), index)| Delivery {
            cursor: Cursor { height, index },
            time_ms: header.timestamp_ms,
            transaction,
            notification,
        });
        Ok(deliveries.collect())
    }
}
