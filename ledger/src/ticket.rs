use std::sync::Arc;

use lamplighter_contracts::admission::AdmissionError;
use lamplighter_types::{Hash, Receipt};
use tokio::sync::oneshot;

/// A transaction's place in the chain and what it did.
#[derive(Clone, Debug)]
pub struct Commitment {
    pub height: u64,
    /// Among the transactions of the block.
    pub index: u32,
    pub receipt: Arc<Receipt>,
}

/// What became of a submitted transaction.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is in a block, durable on a majority.
    Committed(Commitment),
    /// It was left out: it can't be in any block as things stand.
    Refused(AdmissionError),
    /// The node stopped before it knew.
    Unknown,
}

/// The promise of a verdict.
#[derive(Debug)]
pub struct Ticket {
    /// The transaction's name.
    pub hash: Hash,
    waiting: Waiting,
}

#[derive(Debug)]
enum Waiting {
    Known(Verdict),
    Later(oneshot::Receiver<Verdict>),
}

impl Ticket {
    pub(crate) fn known(hash: Hash, verdict: Verdict) -> Self {
        Self {
            hash,
            waiting: Waiting::Known(verdict),
        }
    }

    pub(crate) fn later(hash: Hash, receiver: oneshot::Receiver<Verdict>) -> Self {
        Self {
            hash,
            waiting: Waiting::Later(receiver),
        }
    }

    /// Waits until it is known what became of the transaction. Bound it by a deadline: a cluster
    /// without a quorum gives no verdict, and the transaction may still happen until it expires.
    pub async fn verdict(self) -> Verdict {
        match self.waiting {
            Waiting::Known(verdict) => verdict,
            Waiting::Later(receiver) => receiver.await.unwrap_or(Verdict::Unknown),
        }
    }
}
