//! The rate at which this node sends snapshots. The log uses the same link, and clients wait for
//! the log.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Pieces in a second, at least: a node that waits for the next piece must not take this one for
/// dead.
const PIECES_PER_S: u64 = 4;

/// A limit of bytes in a second, shared by all snapshots that this node sends.
pub(crate) struct SnapshotThrottle {
    bytes_per_s: u64,
    /// The time at which the bytes granted so far have left.
    free_at: Mutex<Instant>,
}

impl SnapshotThrottle {
    /// `bytes_per_s` of at least [`PIECES_PER_S`].
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s,
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// The size of a piece of at most `most` bytes.
    pub(crate) fn piece_bytes(&self, most: usize) -> usize {
        let at_once = (self.bytes_per_s / PIECES_PER_S).max(1);
        most.min(usize::try_from(at_once).unwrap_or(usize::MAX))
    }

    /// Waits until so many bytes may leave; callers wait in turn. A caller that stops waiting uses
    /// up nothing.
    pub(crate) async fn wait(&self, bytes: usize) {
        let mut free_at = self.free_at.lock().await;
        sleep_until(*free_at).await;
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        *free_at = Instant::now() + takes;
    }
}
