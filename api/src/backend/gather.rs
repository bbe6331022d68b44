//! Work that came up and was not sent yet.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future;
use std::time::Duration;

use lamplighter_types::Id;
use lamplighter_types::work::WorkItem;
use tokio::time::{Instant, sleep_until};

/// Work of several blocks is gathered for so long, counted from the first of it: on a busy ledger
/// there is never a pause.
const GATHER: Duration = Duration::from_millis(50);

/// By gateway, each item once.
#[derive(Default)]
pub(super) struct Gathered {
    items: BTreeMap<Id, BTreeSet<WorkItem>>,
    due: Option<Instant>,
}

impl Gathered {
    pub fn add(&mut self, gateway: Id, items: impl IntoIterator<Item = WorkItem>) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return;
        }
        self.items.entry(gateway).or_default().extend(items);
        self.due.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// Waits until it is time to send; for ever while there is nothing to send.
    pub async fn is_due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => future::pending().await,
        }
    }

    pub fn take(&mut self) -> BTreeMap<Id, BTreeSet<WorkItem>> {
        self.due = None;
        std::mem::take(&mut self.items)
    }
}
