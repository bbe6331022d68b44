//! On the leader: gathers pending transactions into batches and proposes them to Raft. While one
//! batch is being synced and replicated the next one fills, so that the batches grow with the load
//! (group commit).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::{Applied, Consensus, Leadership, ProposeError};
use lamplighter_contracts::rollouts;
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::limits::{BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX};
use lamplighter_types::{Hash, SignedTransaction};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::clock::Clock;
use crate::clock_comparison::ClockComparison;
use crate::config::LedgerConfig;
use crate::submit::mempool::Mempool;

/// The time for the comparison of the clocks before this node leads: a few round trips.
const COMPARE_WITHIN: Duration = Duration::from_secs(1);
/// Pause of a leader between two comparisons, while its clock is wrong.
const CLOCK_PAUSE: Duration = Duration::from_millis(200);
/// Bytes of the parent's digest, with which an encoded batch begins.
const HASH_BYTES: usize = 32;
/// Pause before each batch while too many blocks have no certificate.
const UNCERTIFIED_PAUSE: Duration = Duration::from_millis(100);
/// Shortest time between two blocks that only timers of contracts ask for.
const TIMER_BLOCK_EVERY: Duration = Duration::from_millis(20);

/// An ordered set of transactions, proposed to Raft. Every node makes the same block of it. Its
/// digest is the hash of its encoded bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Digest of the batch before this one on the leader; a batch with another parent is void.
    pub parent: Hash,
    /// The leader's clock, Unix time in ms.
    pub timestamp_ms: u64,
    /// The transactions as they came from outside.
    pub transactions: Vec<SignedTransaction>,
}

impl Batch {
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The time in the encoded bytes, which begin with the parent and the time; none if they are
    /// too short for both. Cheap: it is asked for every batch before it is acknowledged.
    pub fn time_of(bytes: &[u8]) -> Option<u64> {
        let (_, rest) = bytes.split_first_chunk::<HASH_BYTES>()?;
        rest.first_chunk().map(|time| u64::from_le_bytes(*time))
    }

    /// # Errors
    /// Too large or malformed: a leader that sends such a batch gets no block for it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let too_long = |got, limit| CodecError::TooLong {
            wanted: "Batch",
            got,
            limit,
        };
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(too_long(bytes.len(), BATCH_BYTES_MAX));
        }
        let batch: Self = codec::decode(bytes)?;
        let count = batch.transactions.len();
        if count > BATCH_TRANSACTIONS_MAX {
            return Err(too_long(count, BATCH_TRANSACTIONS_MAX));
        }
        Ok(batch)
    }
}

/// A proposed batch whose outcome is open.
type InFlightBatch = Pin<Box<dyn Future<Output = Result<Applied, ProposeError>> + Send>>;

pub(crate) struct Sequencer {
    pub config: LedgerConfig,
    pub chain: Arc<Chain>,
    pub mempool: Arc<Mempool>,
    pub clock: Arc<dyn Clock>,
    pub clocks: Arc<ClockComparison>,
    pub consensus: Consensus,
}

impl Sequencer {
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.lead_terms()).await;
    }

    async fn lead_terms(&self) {
        let mut lead = self.consensus.watch_leadership();
        loop {
            // Ready: this node has applied all of earlier terms, so its head is the newest.
            let Ok(term) = lead.wait_for(|lead| lead.ready).await.map(|lead| lead.term) else {
                return;
            };
            tracing::info!(term, "this node leads");
            self.mempool.requeue_all();
            let ended = wait_term_end(&mut lead, self.config.node, term);
            tokio::select! {
                () = self.lead_term() => {}
                () = ended => {}
            }
            // Batches in flight may still be committed: the mempool keeps their transactions until
            // a block has them, and a second copy is left out by its sequence number.
            self.mempool.requeue_all();
            tracing::info!(term, "this node no longer leads");
        }
    }

    /// Proposes batches until one is refused because another node leads, or is void: those after it
    /// are void too. A node whose clock is off a quorum's proposes nothing: the others, who see the
    /// same, elect another leader.
    async fn lead_term(&self) {
        self.wait_for_clock().await;
        let mut parent = self.chain.last_batch();
        let mut in_flight: VecDeque<InFlightBatch> = VecDeque::new();
        let mut last_block = Instant::now();
        loop {
            let has_slot = in_flight.len() < self.config.batches_in_flight_max;
            let even_empty = tokio::select! {
                biased;
                applied = await_oldest(&mut in_flight), if !in_flight.is_empty() => {
                    if !applied {
                        return;
                    }
                    continue;
                }
                () = self.mempool.wait_nonempty(), if has_slot => {
                    self.slow_down().await;
                    false
                }
                () = tokio::time::sleep_until(self.next_block(last_block)),
                    if in_flight.is_empty() => true,
            };
            let Some(next) = self.propose(&mut in_flight, parent, even_empty).await else {
                return;
            };
            parent = next;
            last_block = Instant::now();
        }
    }

    /// Compares this node's clock with those of the others, and waits while it is wrong.
    async fn wait_for_clock(&self) {
        self.clocks.compare(COMPARE_WITHIN, true).await;
        while !self.clocks.may_propose() {
            let standing = self.clocks.standing();
            tracing::warn!(?standing, "this node leads, and can't vouch for its clock");
            tokio::time::sleep(CLOCK_PAUSE).await;
            self.clocks.compare(COMPARE_WITHIN, true).await;
        }
    }

    /// The time of the next block without transactions: the heartbeat, or a timer of a contract
    /// that runs out earlier.
    fn next_block(&self, last_block: Instant) -> Instant {
        let heartbeat = last_block + self.config.heartbeat_every;
        let due_ms = match rollouts::due_ms(&self.chain.live_view()) {
            Ok(due_ms) => due_ms,
            Err(error) => {
                tracing::error!(%error, "the contracts' timers can't be read");
                None
            }
        };
        let Some(due_ms) = due_ms else {
            return heartbeat;
        };
        let wait = Duration::from_millis(due_ms.saturating_sub(self.clock.now_ms()));
        let wait = wait.min(self.config.heartbeat_every);
        heartbeat.min((Instant::now() + wait).max(last_block + TIMER_BLOCK_EVERY))
    }

    /// Pauses while too many blocks have no certificate.
    async fn slow_down(&self) {
        let height = self.chain.head().height;
        let uncertified = height.saturating_sub(self.chain.certified_height());
        if uncertified > self.config.uncertified_max {
            tokio::time::sleep(UNCERTIFIED_PAUSE).await;
        }
    }

    /// Proposes the queued transactions. Returns the digest that the next batch follows, or none
    /// when this node can't propose.
    async fn propose(
        &self,
        in_flight: &mut VecDeque<InFlightBatch>,
        parent: Hash,
        even_empty: bool,
    ) -> Option<Hash> {
        if !self.clocks.may_propose() {
            return None;
        }
        let pending = self.mempool.dequeue_batch();
        if pending.is_empty() && !even_empty {
            return Some(parent);
        }
        let transactions = pending.iter().map(|t| t.envelope().as_ref().clone());
        let batch = Batch {
            parent,
            timestamp_ms: self.clock.now_ms(),
            transactions: transactions.collect(),
        };
        let bytes = batch.encode();
        let digest = Hash::of(&bytes);
        match self.consensus.propose(bytes.into()).await {
            Ok(proposal) => in_flight.push_back(Box::pin(proposal.outcome())),
            Err(error) => {
                tracing::info!(%error, "a batch could not be proposed");
                return None;
            }
        }
        Some(digest)
    }
}

/// Waits until another term begins or another node leads.
async fn wait_term_end(lead: &mut watch::Receiver<Leadership>, node: u64, term: u64) {
    let ended = lead
        .wait_for(|lead| lead.term != term || lead.leader != Some(node))
        .await;
    if ended.is_err() {
        tracing::debug!("consensus has stopped");
    }
}

/// Waits for the oldest batch and returns whether it was applied to a block.
async fn await_oldest(in_flight: &mut VecDeque<InFlightBatch>) -> bool {
    let outcome = in_flight
        .front_mut()
        .expect("called with a batch in flight")
        .await;
    in_flight.pop_front();
    match outcome {
        Ok(applied) => !applied.response.is_empty(),
        Err(error) => {
            tracing::info!(%error, "a batch was not taken");
            false
        }
    }
}
