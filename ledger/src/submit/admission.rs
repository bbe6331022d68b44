//! The way in for transactions of clients and of the node itself.

use std::sync::Arc;

use lamplighter_contracts::admission::{self, AdmissionError};
use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::{Hash, SignedTransaction, Transaction, TransactionError, Verified};
use tokio::sync::{mpsc, oneshot};

use super::mempool::{Busy, Mempool, Ticket, Verdict};
use super::resolver::TicketResolver;
use crate::alarms::Alarms;
use crate::blocking::Blocking;
use crate::chain::{Chain, HeadInfo};
use crate::order::leader_contact::LeaderContact;

/// Signatures that wait to be verified: a second of work for one core.
const VERIFY_QUEUE_MAX: usize = 16_384;
/// Signatures that are verified in one batch.
const VERIFY_BATCH_MAX: usize = 256;

/// Why a transaction was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("not a transaction of this chain")]
    Invalid(#[source] TransactionError),
    #[error("the transaction can't be in a block")]
    Refused(#[source] AdmissionError),
    /// The node took nothing; the same bytes may be sent again.
    #[error("busy")]
    Busy(#[source] Busy),
    #[error("this node can't read its state")]
    State(#[from] StateError),
}

/// Verifies transactions, checks them against the newest state, and adds them to the mempool.
pub(crate) struct Admission {
    chain: Arc<Chain>,
    mempool: Arc<Mempool>,
    resolver: TicketResolver,
    alarms: Arc<Alarms>,
    leader_contact: Arc<LeaderContact>,
    verifier: Verifier,
}

impl Admission {
    /// Starts the verifier's task, which ends when the admission is dropped.
    pub fn start(
        chain: Arc<Chain>,
        mempool: Arc<Mempool>,
        resolver: TicketResolver,
        alarms: Arc<Alarms>,
        leader_contact: Arc<LeaderContact>,
        blocking: Blocking,
    ) -> Self {
        let verifier = Verifier::start(chain.chain_id(), blocking);
        Self {
            chain,
            mempool,
            resolver,
            alarms,
            leader_contact,
            verifier,
        }
    }

    /// The reason why nothing that this node takes now gets into a block.
    pub fn cut_off(&self) -> Option<Busy> {
        if self.chain.halted().is_some() {
            return Some(Busy::Halted);
        }
        let lost_for = self.leader_contact.lost_for()?;
        let seconds = lost_for.as_secs();
        Some(Busy::NoLeader { seconds })
    }

    /// Adds a transaction to the mempool. The same bytes sent again get the same verdict.
    pub async fn submit(&self, signed: SignedTransaction) -> Result<Ticket, SubmitError> {
        if self.alarms.disk_full().is_some() {
            return Err(SubmitError::Busy(Busy::ReadOnly));
        }
        let got = signed.payload.0.len();
        if got > TRANSACTION_BYTES_MAX {
            return Err(SubmitError::Invalid(TransactionError::TooLong { got }));
        }
        let verified = self.verifier.verify(signed).await;
        let verified = verified
            .map_err(SubmitError::Busy)?
            .map_err(SubmitError::Invalid)?;
        let verified = Arc::new(verified);
        let hash = verified.hash();
        if let Some(joined) = self.mempool.join(&hash) {
            return joined.map_err(SubmitError::Busy);
        }
        let HeadInfo {
            height,
            timestamp_ms: time_ms,
            ..
        } = self.chain.head();
        let overlay = Overlay::new(self.chain.live_view());
        if let Err(refusal) = admission::admit(&overlay, &verified, time_ms)? {
            // Refused because it has happened already: then its receipt is the verdict.
            return match self.chain.commitment(&hash)? {
                Some(commitment) => Ok(Ticket::resolved(hash, Verdict::Committed(commitment))),
                None => Err(SubmitError::Refused(refusal)),
            };
        }
        if let Some(cut_off) = self.cut_off() {
            return Err(SubmitError::Busy(cut_off));
        }
        let ticket = self.mempool.insert(verified.clone());
        let ticket = ticket.map_err(SubmitError::Busy)?;
        // A block that was applied meanwhile did not find the transaction in the mempool.
        if self.chain.head().height != height {
            self.resolver.resolve_if_decided(&verified)?;
        }
        Ok(ticket)
    }
}

type VerifyResult = Result<Verified<Transaction>, TransactionError>;
type VerifyRequest = (SignedTransaction, oneshot::Sender<VerifyResult>);

/// Verifies signatures in batches: those that come in while one batch is verified form the next.
struct Verifier {
    requests: mpsc::Sender<VerifyRequest>,
}

impl Verifier {
    fn start(chain_id: Hash, blocking: Blocking) -> Self {
        let (requests, receiver) = mpsc::channel(VERIFY_QUEUE_MAX);
        tokio::spawn(verify_batches(chain_id, blocking, receiver));
        Self { requests }
    }

    async fn verify(&self, signed: SignedTransaction) -> Result<VerifyResult, Busy> {
        let (sender, receiver) = oneshot::channel();
        self.requests
            .try_send((signed, sender))
            .map_err(|_| Busy::Verifier)?;
        receiver.await.map_err(|_| Busy::Verifier)
    }
}

async fn verify_batches(
    chain_id: Hash,
    blocking: Blocking,
    mut requests: mpsc::Receiver<VerifyRequest>,
) {
    let mut batch = Vec::with_capacity(VERIFY_BATCH_MAX);
    while requests.recv_many(&mut batch, VERIFY_BATCH_MAX).await > 0 {
        let (signed, senders): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let results = blocking
            .run(move || SignedTransaction::verify_all(signed, &chain_id))
            .await;
        for (sender, result) in senders.into_iter().zip(results) {
            // The caller may have stopped waiting.
            let _ = sender.send(result);
        }
    }
}
