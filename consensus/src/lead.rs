use std::time::Duration;

use openraft::{EmptyNode, RaftMetrics, ServerState};
use tokio::sync::watch;

use crate::NodeId;

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// The term; it only grows.
    pub term: u64,
    /// The leader of the term, if there is one.
    pub leader: Option<NodeId>,
    /// This node leads, has applied everything that was committed in earlier terms, and a majority
    /// answered it lately. What the state machine shows is then the newest state, and only this
    /// node's own proposals will follow it as long as `term` stays.
    pub ready: bool,
}

/// Leadership that no majority confirmed for so long is not worth much.
fn lead(metrics: &RaftMetrics<NodeId, EmptyNode>, confirmed_within: Duration) -> Lead {
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
    Lead {
        term,
        leader: metrics.current_leader.filter(|_| running),
        ready: leads && applied && confirmed,
    }
}

/// Follows openraft's metrics until openraft ends.
pub(crate) async fn follow(
    mut metrics: watch::Receiver<RaftMetrics<NodeId, EmptyNode>>,
    confirmed_within: Duration,
    out: watch::Sender<Lead>,
) {
    loop {
        let now = lead(&metrics.borrow_and_update(), confirmed_within);
        out.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
