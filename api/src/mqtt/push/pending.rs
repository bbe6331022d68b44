//! The work that one gateway is still to be sent.

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter_types::wire::work::WorkItem;
use tokio::time::Instant;

use super::open_work::DEVICES_MAX;

/// Work of several blocks is collected for so long, counted from the first of it: on a busy ledger
/// there is never a pause.
pub(super) const COLLECT_TIME: Duration = Duration::from_millis(50);
/// A gateway that subscribed to its work has so long to send which devices it holds; then it gets
/// all of its work. On a slow field link its request takes a second or two.
pub(super) const SYNC_TIMEOUT: Duration = Duration::from_secs(3);
/// Most items for one gateway: each of its devices, with a deployment and a configuration, and as
/// many devices that it holds and that are no longer assigned to it. What does not fit is found
/// again when the gateway next sends what it holds.
pub(super) const ITEMS_MAX: usize = 4 * DEVICES_MAX;
/// Weight of the items of one message. A device is one record; a deployment has six and a
/// configuration about as many. A message that is too long all the same is halved.
pub(super) const WEIGHT_MAX: usize = 32;

/// Each item once, however often it came up.
#[derive(Default)]
pub(super) struct PendingWork {
    items: BTreeSet<WorkItem>,
    /// When the items are sent; `None` while there are none.
    send_at: Option<Instant>,
    /// When the ledger is read for all devices and all open work.
    list_at: Option<Instant>,
    /// The ledger is to be read for open work.
    lists_open: bool,
    /// Number of times the gateway subscribed or asked: what an earlier connection did not get is
    /// discarded only if no newer one has asked for it.
    requests: u64,
}

/// The next step for a gateway.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Send one message; with the number of requests until now.
    Send(Vec<WorkItem>, u64),
    /// Read the ledger for all devices and all open work.
    List,
    /// Read the ledger for open work.
    ListOpen,
    Wait(Instant),
    Done,
}

fn weight(item: &WorkItem) -> usize {
    match item {
        WorkItem::Device { .. } | WorkItem::Range { .. } => 1,
        WorkItem::Deployment { .. } | WorkItem::Config { .. } => 4,
    }
}

impl PendingWork {
    /// Adds items that are not there yet, and returns how many did not fit. Names that a gateway
    /// sends come from outside, so the number of items has a limit.
    pub fn add(&mut self, items: impl IntoIterator<Item = WorkItem>) -> usize {
        let mut rejected = 0;
        for item in items {
            if self.items.len() < ITEMS_MAX || self.items.contains(&item) {
                self.items.insert(item);
            } else {
                rejected += 1;
            }
        }
        if !self.items.is_empty() {
            self.send_at
                .get_or_insert_with(|| Instant::now() + COLLECT_TIME);
        }
        rejected
    }

    /// Reads the ledger for everything after `within`, unless that is cancelled before.
    pub fn schedule_listing(&mut self, within: Duration) {
        self.requests += 1;
        self.list_at = Some(Instant::now() + within);
    }

    /// Reads the ledger for open work, at once.
    pub fn schedule_open(&mut self) {
        self.lists_open = true;
    }

    /// The gateway has sent which devices it holds, so that it does not need a listing.
    pub fn cancel_listing(&mut self) {
        self.requests += 1;
        self.list_at = None;
    }

    /// Discards what there is for a connection that has ended.
    pub fn discard(&mut self, requests: u64) {
        if self.requests == requests {
            *self = Self::default();
        }
    }

    /// The next step at the time `now`.
    pub fn next(&mut self, now: Instant) -> NextStep {
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            self.lists_open = false;
            return NextStep::List;
        }
        if std::mem::take(&mut self.lists_open) {
            return NextStep::ListOpen;
        }
        if self.send_at.is_some_and(|at| at <= now) {
            return NextStep::Send(self.next_message(), self.requests);
        }
        match self.send_at.into_iter().chain(self.list_at).min() {
            Some(at) => NextStep::Wait(at),
            None => NextStep::Done,
        }
    }

    /// Removes the items of one message.
    fn next_message(&mut self) -> Vec<WorkItem> {
        let (mut message, mut sum) = (Vec::new(), 0);
        while let Some(item) = self.items.pop_first() {
            sum += weight(&item);
            message.push(item);
            if sum >= WEIGHT_MAX {
                break;
            }
        }
        if self.items.is_empty() {
            self.send_at = None;
        }
        message
    }
}
