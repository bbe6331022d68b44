//! Messages that wait for one client, and where it wants its receipts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use lamplighter_types::Hash;

use crate::mqtt::codec::{self, Message};
use crate::mqtt::counters::Counters;
use crate::mqtt::limits::{
    MAILBOX_BYTES, MAILBOX_HIGH, MAILBOX_ITEMS, MAILBOXES_BYTES, REPLIES_MAX,
};

/// A message on its way to a client.
#[derive(Debug, Clone)]
pub struct QueuedMessage {
    pub message: Message,
    /// 0 or 1.
    pub qos: u8,
    /// The message was sent before and not acknowledged.
    pub redelivered: bool,
}

impl QueuedMessage {
    /// A message that was not sent before.
    pub fn new(message: Message, qos: u8) -> Self {
        Self {
            message,
            qos,
            redelivered: false,
        }
    }

    fn bytes(&self) -> usize {
        codec::publish_bytes(&self.message)
    }
}

/// Why a message did not get into a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The account has no session here, or none that subscribed to this.
    #[error("no session here subscribed to it")]
    NoSubscriber,
    /// The mailbox, or all mailboxes together, are full.
    #[error("the mailbox is full")]
    Full,
}

/// Receipts and work that wait for one client, bounded in number and bytes.
pub(super) struct Mailbox {
    messages: VecDeque<QueuedMessage>,
    bytes: usize,
    /// Counts the bytes of all mailboxes.
    counters: Arc<Counters>,
}

impl Mailbox {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            counters,
        }
    }

    /// Adds a message while the mailbox has less than `bytes_max`.
    pub fn push(&mut self, message: QueuedMessage, bytes_max: usize) -> Result<(), Undelivered> {
        let bytes = message.bytes();
        let full = self.messages.len() >= MAILBOX_ITEMS
            || self.bytes + bytes > bytes_max
            || self.counters.mailbox_bytes.get() as usize + bytes > MAILBOXES_BYTES;
        if full {
            return Err(Undelivered::Full);
        }
        self.add_bytes(bytes);
        self.messages.push_back(message);
        Ok(())
    }

    /// Puts messages that were sent and not acknowledged back in front, in their order. They are as
    /// many as the client's window at most, so they need no room of their own.
    pub fn put_back(&mut self, unacknowledged: Vec<QueuedMessage>) {
        for message in unacknowledged.into_iter().rev() {
            self.add_bytes(message.bytes());
            self.messages.push_front(QueuedMessage {
                redelivered: true,
                ..message
            });
        }
    }

    pub fn pop(&mut self) -> Option<QueuedMessage> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes();
        self.counters.mailbox_bytes.sub(message.bytes() as u64);
        Some(message)
    }

    /// True if so much waits here that nothing more is read from the client.
    pub fn is_high(&self) -> bool {
        self.messages.len() >= MAILBOX_HIGH || self.bytes >= MAILBOX_BYTES / 2
    }

    fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.counters.mailbox_bytes.add(bytes as u64);
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.counters.mailbox_bytes.sub(self.bytes as u64);
    }
}

/// Where MQTT 5 wants the receipt of a transaction.
#[derive(Debug, Clone, Default)]
pub struct ReplyTarget {
    /// Response topic.
    pub topic: Option<String>,
    /// Correlation data.
    pub correlation: Option<Bytes>,
}

/// The reply targets of transactions whose receipt has not come, the oldest dropped first.
#[derive(Default)]
pub(super) struct ReplyTargets {
    by_transaction: HashMap<Hash, ReplyTarget>,
    order: VecDeque<Hash>,
}

impl ReplyTargets {
    pub fn insert(&mut self, transaction: Hash, target: ReplyTarget) {
        if self.by_transaction.insert(transaction, target).is_none() {
            self.order.push_back(transaction);
        }
        while self.order.len() > REPLIES_MAX {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.by_transaction.remove(&oldest));
        }
    }

    pub fn remove(&mut self, transaction: &Hash) -> Option<ReplyTarget> {
        let target = self.by_transaction.remove(transaction)?;
        self.order.retain(|other| other != transaction);
        Some(target)
    }
}
