use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lamplighter_system::RateLimit;
use tokio::time::Instant;

use crate::coap::block::{SZX_MAX, size_bytes};

/// The bytes per second that all transfers of a mesh share. Its users wait in the order in which
/// they asked.
#[derive(Debug)]
pub struct TransferRate(Mutex<RateLimit>);

/// The time at the allowed rate whose bytes may be sent at once after a pause, beside one block: so
/// that a lone block is never delayed.
const BURST: Duration = Duration::from_millis(250);

impl TransferRate {
    /// A rate of at least one byte per second.
    pub fn new(bytes_per_s: u32, now: Instant) -> TransferRate {
        let rate = f64::from(bytes_per_s.max(1));
        let burst = rate * BURST.as_secs_f64() + size_bytes(SZX_MAX) as f64;
        TransferRate(Mutex::new(RateLimit::new(rate, burst, now.into_std())))
    }

    /// Charges `bytes` and returns when they may be sent.
    pub fn reserve(&self, now: Instant, bytes: usize) -> Instant {
        let mut limit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now + limit.charge(bytes as f64, now.into_std())
    }

    /// Waits until `bytes` may be sent.
    pub async fn acquire(&self, bytes: usize) {
        let at = self.reserve(Instant::now(), bytes);
        tokio::time::sleep_until(at).await;
    }
}
