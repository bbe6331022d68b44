//! Makes Raft's members equal to the [membership](crate::membership::Membership) of the ledger: the
//! leader changes Raft, every node releases the departed.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::{Consensus, MembershipError};
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::membership::{RaftChanges, RaftMembers};

/// Deadline of one change of Raft's members; a new node that is far behind is tried again.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// Pause after a change that did not succeed.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Pause between two checks whether the departing nodes have left Raft.
const CHECK_EVERY: Duration = Duration::from_millis(200);

pub(crate) struct MembershipReconciler {
    pub chain: Arc<Chain>,
    pub consensus: Consensus,
}

impl MembershipReconciler {
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = self.reconcile_as_leader() => {}
            () = self.release_departed() => {}
            () = stop.cancelled() => {}
        }
    }

    /// On every node: a node that is no longer a member of Raft need not be reachable.
    async fn release_departed(&self) {
        let mut membership = self.chain.watch_membership();
        while membership
            .wait_for(|m| !m.departing.is_empty())
            .await
            .is_ok()
        {
            self.chain.release_departed(&self.raft_members());
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// On the leader: changes Raft's members to those of the ledger.
    async fn reconcile_as_leader(&self) {
        let mut lead = self.consensus.watch_leadership();
        let mut membership = self.chain.watch_membership();
        loop {
            if lead.wait_for(|lead| lead.ready).await.is_err() {
                return;
            }
            membership.borrow_and_update();
            if let Err(error) = self.reconcile().await {
                tracing::warn!(%error, "the membership could not be changed yet");
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
            tokio::select! {
                changed = membership.changed() => if changed.is_err() { return },
                ended = lead.wait_for(|lead| !lead.ready) => if ended.is_err() { return },
            }
        }
    }

    async fn reconcile(&self) -> Result<(), MembershipError> {
        let membership = self.chain.watch_membership();
        let changes = membership.borrow().raft_changes(&self.raft_members());
        let RaftChanges {
            add_learners,
            voters,
            remove_learners,
        } = changes;
        for node in add_learners {
            self.consensus.add_learner(node, CHANGE_WITHIN).await?;
        }
        if let Some(voters) = voters {
            self.consensus
                .change_membership(voters, CHANGE_WITHIN)
                .await?;
        }
        if !remove_learners.is_empty() {
            self.consensus
                .remove_learners(remove_learners, CHANGE_WITHIN)
                .await?;
        }
        Ok(())
    }

    fn raft_members(&self) -> RaftMembers {
        let metrics = self.consensus.metrics();
        RaftMembers {
            voters: metrics.voters,
            learners: metrics.learners,
        }
    }
}
