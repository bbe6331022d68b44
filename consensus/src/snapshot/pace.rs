//! How fast images leave this node: the log uses the same link, and what clients wait for is the
//! log.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Parts of a second that one piece takes at most, so that those who wait for the next one do not
/// take this node for dead.
const PIECES_PER_S: u64 = 4;

/// Shared by all images that this node sends or lends.
pub(crate) struct Pace {
    bytes_per_s: u64,
    /// When what was granted so far has left.
    free_at: Mutex<Instant>,
}

impl Pace {
    /// `bytes_per_s` of at least [`PIECES_PER_S`].
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s,
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// Size of a piece that may have `most` bytes.
    pub(crate) fn piece_bytes(&self, most: usize) -> usize {
        let at_once = (self.bytes_per_s / PIECES_PER_S).max(1);
        most.min(usize::try_from(at_once).unwrap_or(usize::MAX))
    }

    /// Waits until so many bytes may leave, one after the other. Who gives up takes nothing from
    /// the others.
    pub(crate) async fn wait(&self, bytes: usize) {
        let mut free_at = self.free_at.lock().await;
        sleep_until(*free_at).await;
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        *free_at = Instant::now() + takes;
    }
}
