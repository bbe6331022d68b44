//! The limit of registrations that interrupt the work on a Thing. A registration may mean that the
//! Thing has booted, so the work begins again from its state; but anybody can repeat one that he
//! has heard.

use std::collections::HashMap;
use std::time::Instant;

use lamplighter_system::RateLimit;

/// Registrations at once that are announced to the worker: a Thing that installs boots a few times.
const BURST: f64 = 4.0;
/// Registrations per second after that. If the Thing has booted all the same, its answers show that
/// it has forgotten what it had.
const PER_SECOND: f64 = 0.1;

/// The limits of the Things; at most as many as this gateway serves.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    limits: HashMap<String, RateLimit>,
}

impl Announcements {
    /// True if a registration that changes nothing may interrupt the work.
    pub(super) fn try_acquire(&mut self, endpoint: &str, now: Instant) -> bool {
        if let Some(limit) = self.limits.get_mut(endpoint) {
            return limit.try_acquire(now);
        }
        let mut limit = RateLimit::new(PER_SECOND, BURST, now);
        let is_allowed = limit.try_acquire(now);
        self.limits.insert(endpoint.to_owned(), limit);
        is_allowed
    }

    /// Forgets a Thing that this gateway no longer serves.
    pub(super) fn remove(&mut self, endpoint: &str) {
        self.limits.remove(endpoint);
    }
}
