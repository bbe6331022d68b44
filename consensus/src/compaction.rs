//! The time at which a new snapshot is made, and with it the log purged.
//!
//! openraft requests a snapshot after a number of entries. A node that is catching up with the last
//! snapshot and the log after it must not find that log purged, or under load it would never catch
//! up. So a leader delays the new snapshot while such a node progresses, up to
//! [`Limits::hold_bytes_max`] of log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Limits;
use crate::last_contact::LastContact;
use crate::log::LogStore;
use crate::state_machine::Fatal;
use crate::types::RaftMetrics;

/// A node that was silent for longer does not delay a snapshot. The time is enough for a restart
/// after a crash.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The interval of checks of the other nodes' progress.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Decides when a snapshot may be made.
#[derive(Clone)]
pub(crate) struct Compaction {
    pub metrics: watch::Receiver<RaftMetrics>,
    pub log: LogStore,
    pub limits: Limits,
    pub last_contact: Arc<LastContact>,
    /// True when the node stops.
    pub stop: watch::Receiver<bool>,
}

impl Compaction {
    /// Waits until no node needs the log that a new snapshot would replace.
    ///
    /// # Errors
    /// The node stops. A snapshot that was delayed until then must not be made: whoever starts the
    /// node again opens the same directory.
    pub(crate) async fn wait_unneeded(&self) -> Result<(), Fatal> {
        loop {
            if self.has_stopped() {
                return Err(Fatal::new("the node stops"));
            }
            if !self.is_log_needed() {
                return Ok(());
            }
            sleep(CHECK_EVERY).await;
        }
    }

    /// Waits for work that depends on other nodes, unless this node stops: openraft then has ended,
    /// and the failure is only logged.
    pub(crate) async fn unless_stopped(
        &self,
        work: impl Future<Output = Result<(), Fatal>>,
    ) -> Result<(), Fatal> {
        let mut stop = self.stop.clone();
        tokio::select! {
            result = work => result,
            _ = stop.wait_for(|stop| *stop) => Err(Fatal::new("the node stops")),
        }
    }

    fn has_stopped(&self) -> bool {
        *self.stop.borrow() || self.metrics.borrow().running_state.is_err()
    }

    fn is_log_needed(&self) -> bool {
        if self.log.bytes_since_image() >= self.limits.hold_bytes_max {
            return false;
        }
        let metrics = self.metrics.borrow();
        let last = metrics.last_log_index.unwrap_or(0);
        let behind = |matched: Option<u64>| {
            last.saturating_sub(matched.unwrap_or(0)) > self.limits.keep_entries
        };
        let mut others = metrics.replication.iter().flatten();
        others.any(|(node, matched)| {
            *node != metrics.id
                && behind(matched.map(|log_id| log_id.index))
                && self.last_contact.is_within(*node, SILENCE_MAX)
        })
    }
}
