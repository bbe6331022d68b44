use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, stream};
use lamplighter_ledger::Subscription;
use lamplighter_types::wire::{Cursor, FeedEvent};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::http::quota::ActiveStream;

/// Messages that are made at once; then the task yields.
const MESSAGES_PER_TURN: usize = 16;
/// While no notification passes the filter, the cursor alone is sent once in this many blocks, or
/// after this time. It limits how much is read again when the client reconnects.
const CURSOR_EVERY_BLOCKS: u64 = 1_024;
const CURSOR_EVERY: Duration = Duration::from_secs(5);

/// A message of the feed: its cursor, and the notification at it, if there is one. The cursor alone
/// says that nothing up to it passes the filter.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FeedMessage {
    /// The cursor from which to continue after this message, `height.index`.
    #[schema(value_type = String)]
    pub id: Cursor,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<FeedEvent>,
}

impl FeedMessage {
    fn of(event: FeedEvent) -> Self {
        Self {
            id: event.cursor,
            data: Some(event),
        }
    }
}

/// A client's reader of the feed. It has one block at a time in memory, however slow the client is.
pub struct FeedReader {
    subscription: Subscription,
    /// Notifications of the last block that were not sent yet.
    unsent: VecDeque<FeedEvent>,
    /// The newest id that was sent, and when; no time before the first.
    sent: Cursor,
    sent_at: Option<Instant>,
    _places: (OwnedSemaphorePermit, ActiveStream),
}

impl FeedReader {
    pub fn new(subscription: Subscription, places: (OwnedSemaphorePermit, ActiveStream)) -> Self {
        Self {
            sent: subscription.cursor(),
            subscription,
            unsent: VecDeque::new(),
            sent_at: None,
            _places: places,
        }
    }

    /// All messages, a few at a time.
    pub fn into_messages(self) -> impl Stream<Item = Vec<FeedMessage>> {
        stream::unfold(self, |mut reader| async move {
            let messages = reader.next().await?;
            Some((messages, reader))
        })
    }

    /// The next few messages; `None` at the end.
    async fn next(&mut self) -> Option<Vec<FeedMessage>> {
        if self.sent_at.is_none() {
            return Some(vec![self.cursor_alone()]);
        }
        while self.unsent.is_empty() {
            match self.subscription.next().await {
                Ok(part) => self.unsent = part?.events.into(),
                Err(error) => {
                    tracing::error!(%error, "a subscription can't read the chain");
                    return None;
                }
            }
            if self.unsent.is_empty() && self.is_cursor_due() {
                return Some(vec![self.cursor_alone()]);
            }
        }
        tokio::task::yield_now().await;
        let count = self.unsent.len().min(MESSAGES_PER_TURN);
        let events: Vec<_> = self.unsent.drain(..count).collect();
        if let Some(last) = events.last() {
            self.mark_sent(last.cursor);
        }
        Some(events.into_iter().map(FeedMessage::of).collect())
    }

    fn is_cursor_due(&self) -> bool {
        let blocks = self.subscription.cursor().height - self.sent.height;
        let is_late = |sent_at: Instant| sent_at.elapsed() >= CURSOR_EVERY;
        blocks >= CURSOR_EVERY_BLOCKS || self.sent_at.is_some_and(is_late)
    }

    fn cursor_alone(&mut self) -> FeedMessage {
        let id = self.subscription.cursor();
        self.mark_sent(id);
        FeedMessage { id, data: None }
    }

    fn mark_sent(&mut self, cursor: Cursor) {
        self.sent = cursor;
        self.sent_at = Some(Instant::now());
    }
}
