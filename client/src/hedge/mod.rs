//! Calls to one node after the other, of which the next one begins while the last is still awaited:
//! a node that is silent costs a short wait, and the first usable answer counts. Only for requests
//! that may arrive any number of times: reads, and the same signed bytes.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

/// Shortest wait for a node before the next one is called too: far longer than a node in the same
/// country takes, and short beside the wait until a silent node is given up.
pub(crate) const HEDGE_AFTER_MIN: Duration = Duration::from_millis(750);
/// Longest such wait.
const HEDGE_AFTER_MAX: Duration = Duration::from_secs(2);
/// Nodes that are awaited at once: a slow link carries each request twice at most, and nodes that
/// are slow because there is much to do get at most twice as much.
pub(crate) const AWAITED_MAX: usize = 2;
/// The wait is this many times as long as answers usually take.
const USUAL_TIMES: u32 = 2;

/// The usual time of usable answers, a moving average.
#[derive(Debug, Default)]
pub(crate) struct AnswerTime(Mutex<Duration>);

impl AnswerTime {
    /// Takes up the time of a usable answer.
    pub fn took(&self, time: Duration) {
        let mut usual = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *usual = (*usual * 3 + time) / 4;
    }

    /// The wait before the next node is called too.
    pub fn hedge_after(&self) -> Duration {
        let usual = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (usual * USUAL_TIMES).clamp(HEDGE_AFTER_MIN, HEDGE_AFTER_MAX)
    }
}

/// One round of calls.
pub(crate) struct Hedge<C> {
    nodes: std::vec::IntoIter<usize>,
    calls: FuturesUnordered<C>,
    awaited: BTreeSet<usize>,
    after: Duration,
    /// When the next node is called.
    next_at: Instant,
}

impl<T, C: Future<Output = (usize, T)>> Hedge<C> {
    /// A round over nodes, of which the next one is called after this wait for the last one.
    pub fn new(nodes: Vec<usize>, after: Duration) -> Self {
        Self {
            nodes: nodes.into_iter(),
            calls: FuturesUnordered::new(),
            awaited: BTreeSet::new(),
            after,
            next_at: Instant::now(),
        }
    }

    /// The nodes that were called and have not answered.
    pub fn awaited(&self) -> &BTreeSet<usize> {
        &self.awaited
    }

    /// Waits for an answer, and calls nodes with `call` meanwhile; `None` after the last answer.
    pub async fn next(&mut self, call: impl Fn(usize) -> C) -> Option<(usize, T)> {
        loop {
            let has_next = self.awaited.len() < AWAITED_MAX && !self.nodes.as_slice().is_empty();
            if has_next && self.next_at <= Instant::now() {
                let index = self.nodes.next()?;
                self.next_at = Instant::now() + self.after;
                self.awaited.insert(index);
                self.calls.push(call(index));
                continue;
            }
            let answer = if has_next {
                tokio::select! {
                    biased;
                    answer = self.calls.next() => answer,
                    () = tokio::time::sleep_until(self.next_at) => continue,
                }
            } else {
                self.calls.next().await
            };
            let (index, answer) = answer?;
            self.awaited.remove(&index);
            // If it is of no use, the next node is called at once.
            self.next_at = Instant::now();
            return Some((index, answer));
        }
    }
}

#[cfg(test)]
mod tests;
