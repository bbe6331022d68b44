use std::time::{Duration, Instant};

/// A token bucket that may go into debt: after more than it holds, its user waits until the debt is
/// paid. Time is passed in, so that it is tested without waiting.
///
/// Not the `governor` crate: that one refuses a single charge larger than the burst, and here one
/// large packet must be let through and paid for.
#[derive(Debug, Clone)]
pub struct RateLimit {
    level: f64,
    per_second: f64,
    burst: f64,
    filled: Instant,
}

impl RateLimit {
    /// A full bucket: `burst` units at once, `per_second` units in the long run (both above 0).
    pub fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self {
            level: burst,
            per_second,
            burst,
            filled: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled);
        self.level = (self.level + elapsed.as_secs_f64() * self.per_second).min(self.burst);
        self.filled = self.filled.max(now);
    }

    /// Takes one unit if there is one.
    pub fn try_acquire(&mut self, now: Instant) -> bool {
        self.fill(now);
        let enough = self.level >= 1.0;
        if enough {
            self.level -= 1.0;
        }
        enough
    }

    /// Takes `amount` units in any case, and returns how long the debt takes to pay.
    pub fn charge(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        self.level -= amount;
        Duration::from_secs_f64((-self.level / self.per_second).max(0.0))
    }
}
