//! When a new image is made, and with it the log purged.
//!
//! openraft asks for an image after so many entries. A node that is catching up with the last image
//! and the log after it must not find that log purged when it gets there, or under load it would
//! never arrive. So a leader puts the new image off while such a node gets on, up to
//! [`Limits::hold_bytes_max`] of log.

use std::sync::Arc;
use std::time::Duration;

use openraft::{EmptyNode, RaftMetrics};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Limits;
use crate::log::LogStore;
use crate::machine::Fatal;
use crate::network::Heard;
use crate::raft::NodeId;

/// A node that was silent for so long does not hold the log back any more. It is enough to start
/// again after a crash.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the others' progress.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(crate) struct Compaction {
    pub metrics: watch::Receiver<RaftMetrics<NodeId, EmptyNode>>,
    pub log: LogStore,
    pub limits: Limits,
    pub heard: Arc<Heard>,
    /// True when the node stops.
    pub stop: watch::Receiver<bool>,
}

impl Compaction {
    /// Waits until no node needs the log that a new image would replace.
    pub(crate) async fn wait(&self) {
        while !self.has_stopped() && self.is_needed() {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for what depends on other nodes, unless this one stops: then openraft is not there
    /// any more to hear of the failure.
    pub(crate) async fn unless_stopped(
        &self,
        work: impl Future<Output = Result<(), Fatal>>,
    ) -> Result<(), Fatal> {
        let mut stop = self.stop.clone();
        tokio::select! {
            done = work => done,
            _ = stop.wait_for(|stop| *stop) => Err(Fatal::new("the node stops")),
        }
    }

    fn has_stopped(&self) -> bool {
        *self.stop.borrow() || self.metrics.borrow().running_state.is_err()
    }

    fn is_needed(&self) -> bool {
        if self.log.kept_bytes() >= self.limits.hold_bytes_max {
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
                && self.heard.within(*node, SILENCE_MAX)
        })
    }
}
