//! Makes Raft's members equal to the [`Membership`] of the ledger: the leader changes Raft, every
//! node releases the departed.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::MembershipError;
use tokio_util::sync::CancellationToken;

use super::{RaftChanges, RaftMembers};
use crate::inner::Inner;

/// For one change of Raft's members; a new node that is far behind is tried again.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// The pause after a change that did not succeed.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The pause between two checks whether the departing have left Raft.
const CHECK_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    tokio::select! {
        () = reconcile_as_leader(&inner) => {}
        () = release_departed(&inner) => {}
        () = stop.cancelled() => {}
    }
}

/// On every node: a node that Raft has no longer need not be reachable.
async fn release_departed(inner: &Arc<Inner>) {
    let mut membership = inner.chain.watch_membership();
    while membership
        .wait_for(|m| !m.departing.is_empty())
        .await
        .is_ok()
    {
        inner.chain.release_departed(&raft_members(inner));
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

/// On the leader: changes Raft's members to what the ledger says.
async fn reconcile_as_leader(inner: &Arc<Inner>) {
    let mut lead = inner.consensus().watch_leadership();
    let mut membership = inner.chain.watch_membership();
    loop {
        if lead.wait_for(|lead| lead.ready).await.is_err() {
            return;
        }
        membership.borrow_and_update();
        if let Err(error) = reconcile(inner).await {
            tracing::warn!(%error, "the membership could not be changed yet");
            tokio::time::sleep(RETRY_AFTER).await;
            continue;
        }
        tokio::select! {
            changed = membership.changed() => if changed.is_err() { return },
            over = lead.wait_for(|lead| !lead.ready) => if over.is_err() { return },
        }
    }
}

async fn reconcile(inner: &Arc<Inner>) -> Result<(), MembershipError> {
    let consensus = inner.consensus();
    let changes = inner
        .chain
        .watch_membership()
        .borrow()
        .raft_changes(&raft_members(inner));
    let RaftChanges {
        add_learners,
        voters,
        remove_learners,
    } = changes;
    for node in add_learners {
        consensus.add_learner(node, CHANGE_WITHIN).await?;
    }
    if let Some(voters) = voters {
        consensus.change_membership(voters, CHANGE_WITHIN).await?;
    }
    if !remove_learners.is_empty() {
        consensus
            .remove_learners(remove_learners, CHANGE_WITHIN)
            .await?;
    }
    Ok(())
}

fn raft_members(inner: &Inner) -> RaftMembers {
    let metrics = inner.consensus().metrics();
    RaftMembers {
        voters: metrics.voters,
        learners: metrics.learners,
    }
}
