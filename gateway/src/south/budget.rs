//! The bytes per second that all transfers of a mesh share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What may be sent at once after a pause, so that a lone block is never delayed.
const BURST: Duration = Duration::from_millis(250);

/// A rate limit (generic cell rate algorithm); waiters are served in the order in which they ask.
#[derive(Debug)]
pub struct Budget {
    bytes_per_s: u32,
    /// When the bytes promised so far will have been sent at the allowed rate.
    busy_until: Mutex<Option<Instant>>,
}

impl Budget {
    /// At least one byte per second.
    pub fn new(bytes_per_s: u32) -> Budget {
        Budget {
            bytes_per_s: bytes_per_s.max(1),
            busy_until: Mutex::new(None),
        }
    }

    /// Promises `bytes` and says from when on they may be sent.
    pub fn reserve(&self, now: Instant, bytes: usize) -> Instant {
        let mut busy_until = self
            .busy_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let from = busy_until.map_or(now, |at| at.max(now));
        let cost = Duration::from_secs_f64(bytes as f64 / f64::from(self.bytes_per_s));
        *busy_until = Some(from + cost);
        from.checked_sub(BURST).map_or(now, |at| at.max(now))
    }

    /// Waits until `bytes` may be sent.
    pub async fn take(&self, bytes: usize) {
        let at = self.reserve(Instant::now(), bytes);
        tokio::time::sleep_until(at).await;
    }
}
