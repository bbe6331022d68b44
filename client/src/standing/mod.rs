//! The standing of the nodes, which decides the order in which they are called.
//!
//! A node loses its standing for a while when it does not serve, and for longer when its answers do
//! not verify. It is then called after the others, but never left out: all may be in trouble at
//! once. A socket that is open counts for nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lamplighter_system::unix_ms;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// First time for which a node that did not serve is called last. It doubles with each fault.
const UNSERVED_MIN: Duration = Duration::from_secs(5);
/// Longest such time: a node that was repaired is used again within a minute.
const UNSERVED_MAX: Duration = Duration::from_secs(60);
/// The same for a node whose answer did not verify, which no outage explains.
const UNTRUE_MIN: Duration = Duration::from_secs(60);
const UNTRUE_MAX: Duration = Duration::from_secs(600);
/// A node that lacks a block which was proven so long ago is cut off or halted.
const BEHIND_AFTER: Duration = Duration::from_secs(10);

/// A reason to call a node last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// No answer, too late, busy, damaged, or behind the others.
    Unserved,
    /// An answer that can't be true.
    Untrue,
}

impl Fault {
    fn times(self) -> (Duration, Duration) {
        match self {
            Self::Unserved => (UNSERVED_MIN, UNSERVED_MAX),
            Self::Untrue => (UNTRUE_MIN, UNTRUE_MAX),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The worst fault, and until when it counts.
    fault: Option<(Fault, Instant)>,
    /// Faults since the last answer that verified.
    count: u32,
}

impl Standing {
    fn fault_at(&self, now: Instant) -> Option<Fault> {
        let (fault, until) = self.fault?;
        (now < until).then_some(fault)
    }
}

#[derive(Debug)]
struct NodeOrder {
    /// The node that is called first of those in good standing.
    first: usize,
    nodes: Vec<Standing>,
    /// The highest block that any node has proven, and since when it is known.
    proven: Option<(u64, Instant)>,
}

/// The standings of all nodes.
#[derive(Debug)]
pub(crate) struct Standings(Mutex<NodeOrder>);

impl Standings {
    pub fn new(nodes: usize) -> Self {
        Self(Mutex::new(NodeOrder {
            first: 0,
            nodes: vec![Standing::default(); nodes],
            proven: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, NodeOrder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All nodes, in the order in which they are called.
    pub fn in_turn(&self) -> Vec<usize> {
        let (state, now) = (self.lock(), Instant::now());
        let count = state.nodes.len();
        let mut turns: Vec<_> = (0..count)
            .map(|step| (state.first + step) % count)
            .collect();
        turns.sort_by_key(|index| state.nodes[*index].fault_at(now));
        turns
    }

    /// Calls this node first, as long as it is in good standing.
    pub fn prefer(&self, index: usize) {
        self.lock().first = index;
    }

    /// Takes up an answer that is not proven. It makes up for outages only.
    pub fn served(&self, index: usize) {
        let mut state = self.lock();
        let standing = &mut state.nodes[index];
        if standing
            .fault
            .is_none_or(|(fault, _)| fault == Fault::Unserved)
        {
            *standing = Standing::default();
            state.first = index;
        }
    }

    /// Takes up a proof that holds, under a header of this height.
    pub fn proved(&self, index: usize, height: u64) {
        let mut state = self.lock();
        state.nodes[index] = Standing::default();
        state.first = index;
        if state.proven.is_none_or(|(proven, _)| proven < height) {
            state.proven = Some((height, Instant::now()));
        }
    }

    /// Takes up the height that a node says it has. A node can only harm itself with it.
    pub fn at_height(&self, index: usize, height: u64) {
        let proven = self.lock().proven;
        let is_behind = proven
            .is_some_and(|(proven, since)| height < proven && since.elapsed() >= BEHIND_AFTER);
        if is_behind {
            self.failed(index, Fault::Unserved);
        }
    }

    /// Calls this node after the others for a while.
    pub fn failed(&self, index: usize, fault: Fault) {
        let (mut state, now) = (self.lock(), Instant::now());
        let standing = &mut state.nodes[index];
        let (min, max) = fault.times();
        let until = now + min.saturating_mul(1 << standing.count.min(8)).min(max);
        standing.count = standing.count.saturating_add(1);
        // A worse fault is not made up for by an outage.
        let kept = standing.fault.filter(|(known, _)| *known > fault);
        if kept.is_none_or(|(_, until)| until <= now) {
            standing.fault = Some((fault, until));
        }
    }
}

/// What a program remembers of a node until it runs again. It decides about the order of the calls
/// alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStanding {
    /// The address of the node, as the program calls it.
    pub url: String,
    /// It is called first of those in good standing.
    pub is_first: bool,
    /// The number of faults since its last answer that verified.
    pub faults: u32,
    /// Unix time in ms until which it is called last; 0 if it is in good standing.
    pub until_ms: u64,
    /// Its answer did not verify: worse than an outage.
    pub is_untrue: bool,
}

impl Standings {
    /// What is worth remembering of the nodes with these addresses.
    pub fn remembered<'a>(&self, urls: impl Iterator<Item = &'a str>) -> Vec<NodeStanding> {
        let (state, now, now_ms) = (self.lock(), Instant::now(), unix_ms());
        let nodes = urls.zip(&state.nodes).zip(0..);
        let standing = nodes.map(|((url, standing), index)| {
            let fault = standing.fault.filter(|(_, until)| now < *until);
            let until_ms = |(_, until): (Fault, Instant)| {
                now_ms + until.duration_since(now).as_millis() as u64
            };
            NodeStanding {
                url: url.to_owned(),
                is_first: state.first == index,
                faults: fault.map_or(0, |_| standing.count),
                until_ms: fault.map_or(0, until_ms),
                is_untrue: fault.is_some_and(|(fault, _)| fault == Fault::Untrue),
            }
        });
        standing.collect()
    }

    /// Takes up what was remembered of nodes. None counts for longer than a fault of now would,
    /// whatever a file or a clock says.
    pub fn restore<'a>(&self, urls: impl Iterator<Item = &'a str>, known: &[NodeStanding]) {
        let (mut state, now, now_ms) = (self.lock(), Instant::now(), unix_ms());
        for (index, url) in urls.enumerate() {
            let Some(known) = known.iter().find(|known| known.url == url) else {
                continue;
            };
            if known.is_first {
                state.first = index;
            }
            let fault = match known.is_untrue {
                true => Fault::Untrue,
                false => Fault::Unserved,
            };
            let left = Duration::from_millis(known.until_ms.saturating_sub(now_ms));
            if !left.is_zero() {
                state.nodes[index] = Standing {
                    fault: Some((fault, now + left.min(fault.times().1))),
                    count: known.faults,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests;
