//! On the leader: gathers waiting transactions into batches and proposes them. While one batch is
//! being synced and replicated the next one fills, so that the batches grow with the load (group
//! commit).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::{Applied, Leadership, ProposeError};
use lamplighter_contracts::rollouts;
use lamplighter_types::Hash;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::batch::Batch;
use crate::inner::Inner;
use crate::message::batch_digest;

/// Pause before each batch while too many blocks have no certificate.
const UNCERTIFIED_PAUSE: Duration = Duration::from_millis(100);

/// Blocks that only timers ask for come no faster.
const TIMER_BLOCK_EVERY: Duration = Duration::from_millis(20);

pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let work = async {
        let mut lead = inner.consensus().watch_leadership();
        loop {
            // Ready: this node has applied all of earlier terms, so its head is the newest.
            let Ok(term) = lead.wait_for(|lead| lead.ready).await.map(|lead| lead.term) else {
                return;
            };
            tracing::info!(term, "this node leads");
            inner.pool.give_all_back();
            let over = lead_over(&mut lead, inner.config.node, term);
            tokio::select! {
                () = lead_term(&inner) => {}
                () = over => {}
            }
            // What is in flight may still be committed; the pool holds it until a block says so,
            // and a second copy is left out by its sequence number.
            inner.pool.give_all_back();
            tracing::info!(term, "this node no longer leads");
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Until another term begins or another node leads.
async fn lead_over(lead: &mut watch::Receiver<Leadership>, node: u64, term: u64) {
    let over = lead
        .wait_for(|lead| lead.term != term || lead.leader != Some(node))
        .await;
    if over.is_err() {
        tracing::debug!("consensus has stopped");
    }
}

/// A batch on its way.
type Flight = Pin<Box<dyn Future<Output = Result<Applied, ProposeError>> + Send>>;

/// Proposes batches until one is refused because another node leads.
async fn lead_term(inner: &Arc<Inner>) {
    let mut parent = inner.chain.last_batch();
    let mut flights: VecDeque<Flight> = VecDeque::new();
    let mut last_block = Instant::now();
    loop {
        let room = flights.len() < inner.config.batches_in_flight_max;
        tokio::select! {
            biased;
            landed = land(&mut flights), if !flights.is_empty() => {
                if !landed {
                    return;
                }
            }
            () = inner.pool.filled(), if room => {
                slow_down(inner).await;
                let Some(next) = propose(inner, &mut flights, parent, false).await else { return };
                parent = next;
                last_block = Instant::now();
            }
            () = tokio::time::sleep_until(next_block(inner, last_block)), if flights.is_empty() => {
                let Some(next) = propose(inner, &mut flights, parent, true).await else { return };
                parent = next;
                last_block = Instant::now();
            }
        }
    }
}

/// When a block is due without transactions: the heartbeat, or a timer of a contract that runs out
/// earlier.
fn next_block(inner: &Arc<Inner>, last_block: Instant) -> Instant {
    let heartbeat = last_block + inner.config.heartbeat_every;
    let due_ms = match rollouts::due_ms(&inner.chain.newest_view()) {
        Ok(due_ms) => due_ms,
        Err(error) => {
            tracing::error!(%error, "the contracts' timers can't be read");
            None
        }
    };
    let Some(due_ms) = due_ms else {
        return heartbeat;
    };
    let wait = Duration::from_millis(due_ms.saturating_sub(inner.clock.now_ms()));
    heartbeat.min((Instant::now() + wait).max(last_block + TIMER_BLOCK_EVERY))
}

/// Waits for the oldest batch; whether it was applied.
async fn land(flights: &mut VecDeque<Flight>) -> bool {
    let outcome = flights
        .front_mut()
        .expect("called with a batch in flight")
        .await;
    flights.pop_front();
    if let Err(error) = &outcome {
        tracing::info!(%error, "a batch was not taken");
    }
    outcome.is_ok()
}

async fn slow_down(inner: &Arc<Inner>) {
    let height = inner.chain.head().height;
    if height.saturating_sub(inner.chain.certified_height()) > inner.config.uncertified_max {
        tokio::time::sleep(UNCERTIFIED_PAUSE).await;
    }
}

/// Proposes what waits; returns the digest that the next batch follows, none when this node can't.
async fn propose(
    inner: &Arc<Inner>,
    flights: &mut VecDeque<Flight>,
    parent: Hash,
    even_empty: bool,
) -> Option<Hash> {
    let taken = inner.pool.take_batch();
    if taken.is_empty() && !even_empty {
        return Some(parent);
    }
    let transactions = taken
        .iter()
        .map(|t| t.envelope().as_ref().clone())
        .collect();
    let batch = Batch {
        parent,
        timestamp_ms: inner.clock.now_ms(),
        transactions,
    };
    let bytes = batch.encode();
    let digest = batch_digest(&bytes);
    match inner.consensus().propose(bytes.into()).await {
        Ok(proposal) => flights.push_back(Box::pin(proposal.outcome())),
        Err(error) => {
            tracing::info!(%error, "a batch could not be proposed");
            return None;
        }
    }
    Some(digest)
}
