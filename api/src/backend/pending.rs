//! What one gateway is still to be told.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter_types::work::WorkItem;
use tokio::time::Instant;

use super::work::DEVICES_MAX;

/// Work of several blocks is gathered for so long, counted from the first of it: on a busy ledger
/// there is never a pause.
pub(super) const GATHER: Duration = Duration::from_millis(50);
/// A gateway that begins to listen has so long to say which devices it knows; then it is told all.
/// On a slow field link its first 500 names take more than a second.
pub(super) const SYNC_WITHIN: Duration = Duration::from_secs(3);
/// Most items for one gateway: each of its devices, with a deployment and a configuration, and as
/// many devices that it holds and that are not its own any more. What does not fit is found again
/// when the gateway next says what it holds.
pub(super) const ITEMS_MAX: usize = 4 * DEVICES_MAX;
/// What one message takes. A device is one record; a deployment has six and a configuration about
/// as many. A message that is too long all the same is halved.
const WEIGHT_MAX: usize = 32;

/// Each item once, however often it came up.
#[derive(Default)]
pub(super) struct Pending {
    items: BTreeSet<WorkItem>,
    /// When they are sent, while there are any.
    due: Option<Instant>,
    /// When all that is open for the gateway is looked for.
    listing: Option<Instant>,
    /// How often the gateway began to listen or asked: what an earlier connection did not get is
    /// only forgotten if no later one has asked for it.
    asked: u64,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// One message, and the count of what was asked until now.
    Send(Vec<WorkItem>, u64),
    /// Look for all that is open.
    List,
    Wait(Instant),
    Nothing,
}

fn weight(item: &WorkItem) -> usize {
    match item {
        WorkItem::Device { .. } => 1,
        WorkItem::Deployment { .. } | WorkItem::Config { .. } => 4,
    }
}

impl Pending {
    /// Adds items that are not there yet, and returns how many did not fit. Names that a gateway
    /// says it holds come from outside, so what is kept of them has a limit.
    pub fn add(&mut self, items: impl IntoIterator<Item = WorkItem>) -> usize {
        let mut left_out = 0;
        for item in items {
            if self.items.len() < ITEMS_MAX || self.items.contains(&item) {
                self.items.insert(item);
            } else {
                left_out += 1;
            }
        }
        if !self.items.is_empty() {
            self.due.get_or_insert_with(|| Instant::now() + GATHER);
        }
        left_out
    }

    /// All that is open is wanted, unless the gateway says in time what it has.
    pub fn list(&mut self, within: Duration) {
        self.asked += 1;
        self.listing = Some(Instant::now() + within);
    }

    /// The gateway has said what it has.
    pub fn said(&mut self) {
        self.asked += 1;
        self.listing = None;
    }

    /// Forgets what there is for a connection that is gone.
    pub fn forget(&mut self, asked: u64) {
        if self.asked == asked {
            *self = Self::default();
        }
    }

    pub fn next(&mut self, now: Instant) -> Next {
        if self.listing.is_some_and(|at| at <= now) {
            self.listing = None;
            return Next::List;
        }
        if self.due.is_some_and(|at| at <= now) {
            return Next::Send(self.take(), self.asked);
        }
        match self.due.into_iter().chain(self.listing).min() {
            Some(at) => Next::Wait(at),
            None => Next::Nothing,
        }
    }

    /// One message.
    fn take(&mut self) -> Vec<WorkItem> {
        let (mut message, mut sum) = (Vec::new(), 0);
        while let Some(item) = self.items.pop_first() {
            sum += weight(&item);
            message.push(item);
            if sum >= WEIGHT_MAX {
                break;
            }
        }
        if self.items.is_empty() {
            self.due = None;
        }
        message
    }
}
