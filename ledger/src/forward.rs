//! On a node that does not lead: passes waiting transactions to the leader, again and again until
//! they are in a block, so that a client never sees who leads or that it changed.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::Leadership;
use lamplighter_types::SignedTransaction;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::inner::Inner;
use crate::message::{Acceptance, FORWARDED_BYTES_MAX, FORWARDED_MAX, PeerAnswer, PeerRequest};
use crate::pool::Pending;
use crate::settle;

/// Pause after the leader was busy or could not be reached.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let work = async {
        let mut lead = inner.consensus().watch_leadership();
        loop {
            let Leadership { term, leader, .. } = *lead.borrow_and_update();
            let Some(node) = leader.filter(|node| *node != inner.config.node) else {
                if lead.changed().await.is_err() {
                    return;
                }
                continue;
            };
            inner.pool.give_all_back();
            tokio::select! {
                () = forward_to(&inner, node) => {}
                changed = lead.wait_for(|l| l.term != term || l.leader != leader) => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Serves one leader until the caller drops this future.
async fn forward_to(inner: &Arc<Inner>, leader: u64) {
    let patience = inner.config.forward_again_after;
    // Of its own: a pool that fills all the time leaves no pause.
    let mut again = tokio::time::interval(patience);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = inner.pool.filled() => {}
            _ = again.tick() => inner.pool.give_stale_back(patience),
        }
        let taken = inner
            .pool
            .take_to_forward(FORWARDED_BYTES_MAX, FORWARDED_MAX);
        if !taken.is_empty() && !pass_on(inner, leader, &taken).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether the leader took all.
async fn pass_on(inner: &Arc<Inner>, leader: u64, taken: &[Pending]) -> bool {
    let transactions: Vec<SignedTransaction> = taken
        .iter()
        .map(|t| SignedTransaction::clone(t.envelope()))
        .collect();
    let answer = inner
        .peers
        .request(leader, PeerRequest::Submit(transactions))
        .await;
    let refused: Vec<_> = match answer {
        Ok(PeerAnswer::Submitted(accepted)) if accepted.len() == taken.len() => {
            settle(inner, taken, &accepted);
            let busy = accepted.iter().map(|a| *a == Acceptance::Busy);
            taken
                .iter()
                .zip(busy)
                .filter(|(_, busy)| *busy)
                .map(|(t, _)| t.hash())
                .collect()
        }
        // What the leader refuses is kept until it expires or a block settles it: only this node's
        // own state decides.
        _ => taken.iter().map(|t| t.hash()).collect(),
    };
    let all = refused.is_empty();
    inner.pool.give_back(refused.into_iter());
    all
}

/// What the leader refuses this node may see to be settled already, by a block that it got with an
/// image, or applied just when the transaction came in. No block to come says so: it is looked up.
/// What this node does not see refused for good stays: an earlier answer of a leader that took it
/// may have been lost.
fn settle(inner: &Arc<Inner>, taken: &[Pending], accepted: &[Acceptance]) {
    let refused = taken.iter().zip(accepted);
    for (transaction, _) in refused.filter(|(_, a)| **a == Acceptance::Refused) {
        if let Err(error) = settle::one(&inner.chain, &inner.pool, transaction) {
            tracing::error!(%error, "what the leader refused can't be looked up");
        }
    }
}
