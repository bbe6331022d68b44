use std::time::Duration;

use rand::Rng;

/// Exponential back-off with jitter: the pauses between attempts.
///
/// The pause doubles from the shortest to the longest. Each is drawn between half of its value and
/// all of it, so that clients that lost the same server do not come back at the same instant.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at the shortest pause.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            next: min,
        }
    }

    /// The pause before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.max);
        pause
    }

    /// Starts again at the shortest pause.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}
