//! On a node that does not lead: forwards pending transactions to the leader, again and again until
//! they are in a block. So a client never sees which node leads, or that it changed.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::{Consensus, Leadership};
use lamplighter_types::SignedTransaction;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::LedgerConfig;
use crate::message::{
    Acceptance, FORWARDED_BYTES_MAX, FORWARDED_MAX, PeerAnswer, PeerRequest, Peers,
};
use crate::submit::mempool::{Mempool, PendingTransaction};
use crate::submit::resolver::TicketResolver;

/// Pause after the leader was busy or could not be reached.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Forwarder {
    pub config: LedgerConfig,
    pub mempool: Arc<Mempool>,
    pub resolver: TicketResolver,
    pub peers: Arc<dyn Peers>,
    pub consensus: Consensus,
}

impl Forwarder {
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow_leaders()).await;
    }

    async fn follow_leaders(&self) {
        let mut lead = self.consensus.watch_leadership();
        loop {
            let Leadership { term, leader, .. } = *lead.borrow_and_update();
            let Some(node) = leader.filter(|node| *node != self.config.node) else {
                if lead.changed().await.is_err() {
                    return;
                }
                continue;
            };
            self.mempool.requeue_all();
            tokio::select! {
                () = self.forward_to(node) => {}
                changed = lead.wait_for(|l| l.term != term || l.leader != leader) => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Forwards to one leader until the caller drops this future.
    async fn forward_to(&self, leader: u64) {
        let timeout = self.config.forward_again_after;
        // A timer, not a pause: a mempool that fills all the time leaves no pause.
        let mut overdue = tokio::time::interval(timeout);
        overdue.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.mempool.wait_nonempty() => {}
                _ = overdue.tick() => self.mempool.requeue_overdue(timeout),
            }
            let batch = self
                .mempool
                .dequeue_to_forward(FORWARDED_BYTES_MAX, FORWARDED_MAX);
            if !batch.is_empty() && !self.forward_batch(leader, &batch).await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Forwards transactions, queues those again that the leader did not take, and returns whether
    /// it took or refused all.
    async fn forward_batch(&self, leader: u64, batch: &[PendingTransaction]) -> bool {
        let transactions: Vec<SignedTransaction> = batch
            .iter()
            .map(|t| SignedTransaction::clone(t.envelope()))
            .collect();
        let request = PeerRequest::Submit(transactions);
        let not_taken: Vec<_> = match self.peers.request(leader, request).await {
            Ok(PeerAnswer::Submitted(accepted)) if accepted.len() == batch.len() => {
                self.resolve_refused(batch, &accepted);
                let busy = batch.iter().zip(&accepted);
                let busy = busy.filter(|(_, a)| **a == Acceptance::Busy);
                busy.map(|(t, _)| t.hash()).collect()
            }
            _ => batch.iter().map(|t| t.hash()).collect(),
        };
        let all = not_taken.is_empty();
        self.mempool.requeue(not_taken.into_iter());
        all
    }

    /// Looks up the transactions that the leader refused. One may be decided already on this node:
    /// by a block that came with an image, or that was applied just when the transaction came in;
    /// no later block would resolve it. The others stay until they expire or a block decides over
    /// them: only this node's own state decides, because an earlier answer of a leader that took
    /// the transaction may have been lost.
    fn resolve_refused(&self, batch: &[PendingTransaction], accepted: &[Acceptance]) {
        let refused = batch.iter().zip(accepted);
        for (transaction, _) in refused.filter(|(_, a)| **a == Acceptance::Refused) {
            let resolved = self.resolver.resolve_if_decided(transaction);
            if let Err(error) = resolved {
                tracing::error!(%error, "a transaction that the leader refused can't be looked up");
            }
        }
    }
}
