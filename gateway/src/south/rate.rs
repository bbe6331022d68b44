use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lamplighter_system::RateLimit;
use tokio::time::Instant;

/// The bytes per second that all transfers of a mesh share. Its users wait in the order in which
/// they asked.
#[derive(Debug)]
pub struct TransferRate {
    bytes_per_s: f64,
    limit: Mutex<RateLimit>,
}

/// The time at the allowed rate whose bytes may be sent at once after a pause, beside the block
/// that is sent: so that a lone block is never delayed, whatever its size.
const BURST: Duration = Duration::from_millis(250);

impl TransferRate {
    /// A rate of at least one byte per second.
    pub fn new(bytes_per_s: u32, now: Instant) -> TransferRate {
        let bytes_per_s = f64::from(bytes_per_s.max(1));
        let burst = bytes_per_s * BURST.as_secs_f64();
        TransferRate {
            bytes_per_s,
            limit: Mutex::new(RateLimit::new(bytes_per_s, burst, now.into_std())),
        }
    }

    /// Charges `bytes` and returns when they may be sent: once those before them are paid for.
    pub fn reserve(&self, now: Instant, bytes: usize) -> Instant {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = limit.charge(bytes as f64, now.into_std());
        let of_these = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        now + paid.saturating_sub(of_these)
    }

    /// Waits until a block may be sent.
    pub async fn acquire(&self, payload_bytes: usize) {
        self.acquire_on_air(on_air(payload_bytes)).await;
    }

    /// Waits until so many bytes may be sent, those of all headers included.
    pub async fn acquire_on_air(&self, bytes: usize) {
        let at = self.reserve(Instant::now(), bytes);
        tokio::time::sleep_until(at).await;
    }
}

/// Bytes of a block on an 802.15.4 radio: with the header of CoAP, in frames.
pub fn on_air(payload_bytes: usize) -> usize {
    const COAP_BYTES: usize = 25;
    datagram_on_air(payload_bytes + COAP_BYTES)
}

/// Bytes of a datagram on an 802.15.4 radio: with the headers of UDP and IP (compressed), in frames
/// of at most 127 bytes with their own.
pub fn datagram_on_air(datagram_bytes: usize) -> usize {
    const HEADERS_BYTES: usize = 9;
    const FRAME_BYTES: usize = 23;
    const FRAME_PAYLOAD_BYTES: usize = 104;
    let message = datagram_bytes + HEADERS_BYTES;
    message + message.div_ceil(FRAME_PAYLOAD_BYTES) * FRAME_BYTES
}
