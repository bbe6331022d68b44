//! Rates of one account.

use std::time::{Duration, Instant};

use super::limits::BURST_SECONDS;

/// Rates of one account.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Packets a second.
    pub packets: u32,
    /// Bytes a second.
    pub bytes: u32,
}

/// A token bucket that may go into debt: who sent too much waits until the debt is paid.
pub struct Bucket {
    level: f64,
    rate: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate);
        Self {
            level: rate * BURST_SECONDS,
            rate,
            filled: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let earned = (now - self.filled).as_secs_f64() * self.rate;
        self.level = (self.level + earned).min(self.rate * BURST_SECONDS);
        self.filled = now;
    }

    /// Takes one if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let enough = self.level >= 1.0;
        self.level -= f64::from(u8::from(enough));
        enough
    }

    /// Takes `amount`, and says how long the debt takes to pay.
    pub fn charge(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        self.level -= amount;
        Duration::from_secs_f64((-self.level / self.rate).max(0.0))
    }
}
