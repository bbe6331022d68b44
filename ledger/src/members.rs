//! Keeps Raft's members equal to the validators and observers that the ledger names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::MembershipError;
use lamplighter_contracts::governance;
use lamplighter_state::StateError;
use tokio_util::sync::CancellationToken;

use crate::inner::Inner;

/// For one change of the membership; a new node that is far behind is tried again.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// After a change that did not succeed.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let work = async {
        let mut lead = inner.consensus().lead();
        let mut nodes = inner.chain.watch_nodes();
        loop {
            if lead.wait_for(|lead| lead.ready).await.is_err() {
                return;
            }
            nodes.borrow_and_update();
            if let Err(error) = reconcile(&inner).await {
                tracing::warn!(%error, "the membership could not be changed yet");
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
                continue;
            }
            tokio::select! {
                changed = nodes.changed() => if changed.is_err() { return },
                over = lead.wait_for(|lead| !lead.ready) => if over.is_err() { return },
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// Adds who is new as a follower, then gives and takes votes, then drops who is gone.
async fn reconcile(inner: &Arc<Inner>) -> Result<(), ReconcileError> {
    let consensus = inner.consensus();
    let view = inner.chain.newest_view();
    let set = governance::validator_set(&view)?;
    let voters: BTreeSet<u64> = set.validators.iter().map(|v| v.node).collect();
    let observers: BTreeSet<u64> = governance::observers(&view)?
        .iter()
        .map(|o| o.node)
        .collect();
    let members = consensus.metrics();
    let known: BTreeSet<u64> = members.voters.union(&members.learners).copied().collect();
    for node in voters
        .union(&observers)
        .filter(|node| !known.contains(node))
    {
        consensus.add_learner(*node, CHANGE_WITHIN).await?;
    }
    if members.voters != voters {
        consensus
            .change_membership(voters.clone(), CHANGE_WITHIN)
            .await?;
    }
    let gone: BTreeSet<u64> = members
        .learners
        .iter()
        .filter(|node| !observers.contains(node) && !voters.contains(node))
        .copied()
        .collect();
    if !gone.is_empty() {
        consensus.remove_learners(gone, CHANGE_WITHIN).await?;
    }
    Ok(())
}
