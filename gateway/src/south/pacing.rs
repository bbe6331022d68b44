//! The transfers of a mesh that may be under way together: so many at most, and never a router and
//! those who reach the gateway through it. They share its radio, and it boots in the middle of
//! their transfers once it has its own package.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Routers between a Thing and its gateway that are looked at; more, or a circle, are a fault of
/// the table.
const HOPS_MAX: usize = 32;
/// Places in the queue whose worker has ended are looked for when it has doubled beyond this.
const PRUNE_MIN: usize = 64;

/// Limits of the transfers of a mesh.
#[derive(Debug, Clone)]
pub struct PacingConfig {
    /// Transfers under way at once.
    pub transfers_max: usize,
    /// The router through which a Thing reaches the gateway, by their names in commands and events.
    pub parents: BTreeMap<String, String>,
}

impl Default for PacingConfig {
    fn default() -> PacingConfig {
        PacingConfig {
            // More share the same bytes per second, and all of them take longer.
            transfers_max: 16,
            parents: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Default)]
struct PacingState {
    /// The Things of each transfer under way, by its number: one, or all of a cast.
    active: BTreeMap<u64, Vec<String>>,
    numbered: u64,
    waiting: VecDeque<Waiting>,
    prune_at: usize,
}

/// The Things of a transfer that waits.
type Waiting = (Vec<String>, oneshot::Sender<TransferPermit>);

/// The transfers under way and those that wait, first come, first served.
#[derive(Debug)]
pub(super) struct Pacing {
    config: PacingConfig,
    state: Mutex<PacingState>,
}

/// The right to transfer to one Thing, or to all of a cast; dropping it returns it.
#[derive(Debug)]
pub(super) struct TransferPermit {
    pacing: Arc<Pacing>,
    number: u64,
}

impl Drop for TransferPermit {
    fn drop(&mut self) {
        self.pacing.lock().active.remove(&self.number);
        self.pacing.grant();
    }
}

impl Pacing {
    pub(super) fn new(config: PacingConfig) -> Arc<Pacing> {
        let state = Mutex::default();
        Arc::new(Pacing { config, state })
    }

    /// Asks for the right to transfer to these Things together; the place in the queue lasts as
    /// long as the receiver.
    pub(super) fn request(
        self: &Arc<Self>,
        endpoints: Vec<String>,
    ) -> oneshot::Receiver<TransferPermit> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.waiting.len() >= state.prune_at {
                state.waiting.retain(|(_, sender)| !sender.is_closed());
                state.prune_at = 2 * state.waiting.len() + PRUNE_MIN;
            }
            state.waiting.push_back((endpoints, sender));
        }
        self.grant();
        receiver
    }

    /// Grants what can be granted now.
    fn grant(self: &Arc<Self>) {
        while let Some((number, sender)) = self.next() {
            let pacing = self.clone();
            // One that does not wait any more returns it by dropping it, and the next one follows.
            let _ = sender.send(TransferPermit { pacing, number });
        }
    }

    /// The first that waits and fits; those before it that do not fit keep their places.
    fn next(&self) -> Option<(u64, oneshot::Sender<TransferPermit>)> {
        let mut state = self.lock();
        if state.active.len() >= self.config.transfers_max {
            return None;
        }
        loop {
            let PacingState {
                active, waiting, ..
            } = &mut *state;
            let at = waiting.iter().position(|(endpoints, sender)| {
                sender.is_closed() || self.are_apart(endpoints, active.values().flatten())
            })?;
            let (endpoints, sender) = waiting.remove(at)?;
            if !sender.is_closed() {
                state.numbered += 1;
                let number = state.numbered;
                state.active.insert(number, endpoints);
                return Some((number, sender));
            }
        }
    }

    /// True if none of the Things is one of the others, or the router of one, or behind one.
    pub(super) fn are_apart<'a>(
        &self,
        endpoints: &[String],
        mut others: impl Iterator<Item = &'a String>,
    ) -> bool {
        others.all(|other| {
            endpoints.iter().all(|endpoint| {
                other != endpoint
                    && !self.is_behind(endpoint, other)
                    && !self.is_behind(other, endpoint)
            })
        })
    }

    /// True if a Thing reaches the gateway through a router.
    fn is_behind(&self, endpoint: &str, router: &str) -> bool {
        let mut hop = endpoint;
        for _ in 0..HOPS_MAX {
            match self.config.parents.get(hop) {
                Some(parent) if parent == router => return true,
                Some(parent) => hop = parent,
                None => return false,
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, PacingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
