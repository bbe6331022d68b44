//! Keeps Raft's members equal to the nodes that the ledger names. Validators get and lose their
//! vote when that is certified: who can't learn yet that they validate would refuse their lead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::MembershipError;
use tokio_util::sync::CancellationToken;

use crate::inner::Inner;

/// For one change of the membership; a new node that is far behind is tried again.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// After a change that did not succeed.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Between two looks whether those who leave have left.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    tokio::select! {
        () = lead(&inner) => {}
        () = let_go(&inner) => {}
        () = stop.cancelled() => {}
    }
}

/// On every node: who is no member of Raft any more is not needed any more.
async fn let_go(inner: &Arc<Inner>) {
    let mut nodes = inner.chain.watch_nodes();
    while nodes.wait_for(|n| !n.leaving.is_empty()).await.is_ok() {
        let members = inner.consensus().metrics();
        // None are known before Raft has read its log.
        if !members.voters.is_empty() {
            let members = members.voters.union(&members.learners);
            inner.chain.release(&members.copied().collect());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// As the leader: carries out what the ledger says.
async fn lead(inner: &Arc<Inner>) {
    let mut lead = inner.consensus().lead();
    let mut nodes = inner.chain.watch_nodes();
    loop {
        if lead.wait_for(|lead| lead.ready).await.is_err() {
            return;
        }
        nodes.borrow_and_update();
        if let Err(error) = reconcile(inner).await {
            tracing::warn!(%error, "the membership could not be changed yet");
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
            continue;
        }
        tokio::select! {
            changed = nodes.changed() => if changed.is_err() { return },
            over = lead.wait_for(|lead| !lead.ready) => if over.is_err() { return },
        }
    }
}

/// Adds who is new as a follower, then gives and takes votes, then drops who is gone.
async fn reconcile(inner: &Arc<Inner>) -> Result<(), MembershipError> {
    let consensus = inner.consensus();
    let nodes = inner.chain.watch_nodes().borrow().clone();
    let voters = nodes.electors.validators.iter().map(|v| v.node);
    let voters: BTreeSet<u64> = voters.collect();
    let observers = nodes.observers.iter().map(|o| o.node);
    let named = nodes.validators.validators.iter().map(|v| v.node);
    let named: BTreeSet<u64> = named
        .chain(observers)
        .chain(voters.iter().copied())
        .collect();
    let members = consensus.metrics();
    let known: BTreeSet<u64> = members.voters.union(&members.learners).copied().collect();
    for node in named.difference(&known) {
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
        .filter(|node| !named.contains(node))
        .copied()
        .collect();
    if !gone.is_empty() {
        consensus.remove_learners(gone, CHANGE_WITHIN).await?;
    }
    Ok(())
}
