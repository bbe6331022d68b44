//! The contact with a leader. Without it nothing that this node takes gets into a block.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::Consensus;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::message::Peers;

/// A node without a leader for this long takes no new transactions: an election takes 3 s at most,
/// and a few of them may fail. Clients send the same bytes to another node then.
pub(crate) const LEADERLESS_MAX: Duration = Duration::from_secs(10);
/// Time between two checks.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// The time since when there is no contact.
pub(crate) struct LeaderContact {
    lost_at: watch::Sender<Option<Instant>>,
}

impl LeaderContact {
    /// There is none yet.
    pub fn new() -> Self {
        Self {
            lost_at: watch::Sender::new(Some(Instant::now())),
        }
    }

    /// The time without a leader, if it is longer than elections take.
    pub fn lost_for(&self) -> Option<Duration> {
        let lost_at = *self.lost_at.borrow();
        let lost_for = lost_at?.elapsed();
        (lost_for >= LEADERLESS_MAX).then_some(lost_for)
    }

    /// Checks the contact until `stop`.
    pub async fn run(
        self: Arc<Self>,
        consensus: Consensus,
        peers: Arc<dyn Peers>,
        stop: CancellationToken,
    ) {
        let leadership = consensus.watch_leadership();
        let node = consensus.metrics().node_id;
        loop {
            let leadership = *leadership.borrow();
            let has_contact = match leadership.leader {
                // No majority answers a leader that is cut off.
                Some(leader) if leader == node => leadership.ready,
                // A node that does not stand for election keeps its last leader.
                Some(leader) => peers.connected().contains(&leader),
                None => false,
            };
            self.lost_at.send_if_modified(|lost_at| {
                let changed = lost_at.is_none() != has_contact;
                match (has_contact, *lost_at) {
                    (true, _) => *lost_at = None,
                    (false, None) => *lost_at = Some(Instant::now()),
                    (false, Some(_)) => {}
                }
                changed
            });
            tokio::select! {
                () = tokio::time::sleep(CHECK_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
