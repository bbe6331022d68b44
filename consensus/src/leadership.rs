use std::time::Duration;

use openraft::ServerState;
use tokio::sync::watch;

use crate::NodeId;
use crate::types::RaftMetrics;

/// The leader of the cluster, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term; it only grows.
    pub term: u64,
    /// The leader of the term, if there is one.
    pub leader: Option<NodeId>,
    /// This node leads, has applied everything that was committed in earlier terms, and a majority
    /// answered it lately. Its state machine then has the newest state, and only this node's own
    /// proposals follow as long as `term` stays.
    pub ready: bool,
}

impl Leadership {
    /// Leadership that no majority confirmed within `confirmed_within` is not ready.
    fn new(metrics: &RaftMetrics, confirmed_within: Duration) -> Self {
        let term = metrics.current_term;
        let running = metrics.running_state.is_ok();
        let leads = running && metrics.state == ServerState::Leader;
        // The first entry of a new leader comes after everything of earlier terms.
        let applied = metrics.last_applied.is_some_and(|log_id| {
            log_id.leader_id.term == term && log_id.leader_id.node_id == metrics.id
        });
        let limit = confirmed_within.as_millis() as u64;
        let confirmed = metrics
            .millis_since_quorum_ack
            .is_none_or(|age| age <= limit);
        Self {
            term,
            leader: metrics.current_leader.filter(|_| running),
            ready: leads && applied && confirmed,
        }
    }
}

/// Publishes the leadership as openraft's metrics change, until openraft ends.
pub(crate) async fn publish(
    mut metrics: watch::Receiver<RaftMetrics>,
    confirmed_within: Duration,
    out: watch::Sender<Leadership>,
) {
    loop {
        let new = Leadership::new(&metrics.borrow_and_update(), confirmed_within);
        out.send_if_modified(|last| {
            let changed = *last != new;
            *last = new;
            changed
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
