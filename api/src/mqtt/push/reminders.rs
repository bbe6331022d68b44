//! Open work that was sent and is not reported yet: it is sent again until the ledger has a report.
//! Only items that are due are looked at, so that devices without open work cost nothing. No IO.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lamplighter_types::Id;
use lamplighter_types::wire::work::WorkItem;
use tokio::time::Instant;

/// First pause before an item is sent again. It doubles each time.
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// Longest pause: a deployment may wait for days for a Thing that is away.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The items of all gateways that are connected here, each at most once.
#[derive(Default)]
pub struct Reminders {
    by_item: BTreeMap<(Id, WorkItem), Reminder>,
    by_time: BTreeSet<(Instant, Id, WorkItem)>,
}

#[derive(Clone, Copy)]
struct Reminder {
    at: Instant,
    pause: Duration,
}

impl Reminders {
    /// Notes items that are being sent because they are new or were asked for.
    pub fn record(&mut self, gateway: &Id, items: &[WorkItem], now: Instant) {
        let open = items
            .iter()
            .filter(|item| matches!(item, WorkItem::Deployment { .. } | WorkItem::Config { .. }));
        for item in open {
            self.schedule(gateway.clone(), item.clone(), PAUSE_MIN, now);
        }
    }

    /// Removes at most `limit` items that are due. Those that are still open go back by
    /// [`again`](Self::again).
    pub fn take_due(&mut self, limit: usize, now: Instant) -> Vec<DueItem> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((at, ..)) = self.by_time.first()
            && *at <= now
            && let Some((_, gateway, item)) = self.by_time.pop_first()
        {
            let key = (gateway, item);
            let pause = self.by_item.remove(&key).map_or(PAUSE_MIN, |one| one.pause);
            let (gateway, item) = key;
            due.push(DueItem {
                gateway,
                item,
                pause,
            });
        }
        due
    }

    /// Notes an item that is sent again.
    pub fn again(&mut self, due: DueItem, now: Instant) {
        let pause = (due.pause * 2).min(PAUSE_MAX);
        self.schedule(due.gateway, due.item, pause, now);
    }

    /// When the next item is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, ..)| *at)
    }

    fn schedule(&mut self, gateway: Id, item: WorkItem, pause: Duration, now: Instant) {
        let at = now + pause;
        let key = (gateway.clone(), item.clone());
        if let Some(before) = self.by_item.insert(key, Reminder { at, pause }) {
            self.by_time
                .remove(&(before.at, gateway.clone(), item.clone()));
        }
        self.by_time.insert((at, gateway, item));
    }
}

/// An item that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueItem {
    pub gateway: Id,
    pub item: WorkItem,
    /// The pause before it.
    pause: Duration,
}
