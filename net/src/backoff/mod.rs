//! Pauses between attempts to dial.

use std::time::Duration;

use rand::Rng;

/// Doubles from the shortest to the longest pause. Each pause is drawn between half of its value
/// and all of it, so that nodes that lost the same peer do not come back at the same instant.
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Self {
        Backoff {
            min,
            max,
            next: min,
        }
    }

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.max);
        pause
    }

    /// Starts again at the shortest pause.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests;
