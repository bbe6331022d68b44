//! Signatures are verified in batches: those that arrive while one batch is at work form the next.

use lamplighter_types::{Hash, SignedTransaction, Transaction, TransactionError, Verified};
use tokio::sync::{mpsc, oneshot};

use crate::blocking::Blocking;
use crate::pool::Busy;

/// Signatures that wait to be verified: a second of work for one core.
const QUEUE_MAX: usize = 16_384;
/// Signatures of one batch.
const BATCH_MAX: usize = 256;

type Answer = Result<Verified<Transaction>, TransactionError>;
type Job = (SignedTransaction, oneshot::Sender<Answer>);

/// Handle of the verifier's task; the task ends with the last handle.
#[derive(Clone)]
pub(crate) struct Verifier {
    jobs: mpsc::Sender<Job>,
}

impl Verifier {
    pub fn start(chain_id: Hash, blocking: Blocking) -> Self {
        let (jobs, receiver) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run(chain_id, blocking, receiver));
        Self { jobs }
    }

    /// Verifies one transaction, together with others that are there.
    pub async fn verify(&self, signed: SignedTransaction) -> Result<Answer, Busy> {
        let (sender, receiver) = oneshot::channel();
        self.jobs
            .try_send((signed, sender))
            .map_err(|_| Busy::Verifier)?;
        receiver.await.map_err(|_| Busy::Verifier)
    }
}

async fn run(chain_id: Hash, blocking: Blocking, mut jobs: mpsc::Receiver<Job>) {
    let mut waiting = Vec::with_capacity(BATCH_MAX);
    while jobs.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        let (signed, senders): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        let answers = blocking
            .run(move || SignedTransaction::verify_all(signed, &chain_id))
            .await;
        for (sender, answer) in senders.into_iter().zip(answers) {
            // A caller that has gone away needs no answer.
            let _ = sender.send(answer);
        }
    }
}
