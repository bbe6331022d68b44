//! Transactions that the node signs itself: the artifacts it holds, the operations it relays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_contracts::users;
use lamplighter_state::StateError;
use lamplighter_types::{Action, Encoding, Id, SecretKey, SignedTransaction, Transaction};

use super::admission::{Admission, SubmitError};
use super::mempool::Ticket;
use crate::chain::Chain;
use crate::clock::Clock;

/// The time within which a transaction of the node must be in a block.
const EXPIRES_AFTER_MS: u64 = 10 * 60 * 1000;

/// The account and the key of this node.
#[derive(Clone, Debug)]
pub struct Identity {
    pub account: Id,
    pub secret: SecretKey,
}

/// The account of this node on the ledger.
pub(crate) struct NodeAccount {
    identity: Identity,
    /// The last sequence number that this process used.
    last_sequence: AtomicU64,
    chain: Arc<Chain>,
    admission: Arc<Admission>,
    clock: Arc<dyn Clock>,
}

impl NodeAccount {
    pub fn new(
        identity: Identity,
        chain: Arc<Chain>,
        admission: Arc<Admission>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            identity,
            last_sequence: AtomicU64::new(0),
            chain,
            admission,
            clock,
        }
    }

    /// A number above those in the state and those of this process. One that was in flight at a
    /// crash may be used a second time; that transaction is refused, and the next one gets a higher
    /// number.
    fn next_sequence(&self) -> Result<u64, StateError> {
        let view = self.chain.live_view();
        let highest = users::replay_window(&view, &self.identity.secret.public())?.highest();
        self.last_sequence.fetch_max(highest, Ordering::SeqCst);
        Ok(self.last_sequence.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Signs and submits an action.
    pub async fn submit(&self, action: Action) -> Result<Ticket, SubmitError> {
        let Identity { account, secret } = &self.identity;
        let sequence = self.next_sequence()?;
        let now_ms = self.clock.now_ms().max(self.chain.head().timestamp_ms);
        let transaction = Transaction {
            sender: account.clone(),
            sequence,
            expires_ms: now_ms.saturating_add(EXPIRES_AFTER_MS),
            action,
        };
        let chain_id = self.chain.chain_id();
        let signed = SignedTransaction::sign(&transaction, Encoding::Bincode, &chain_id, secret);
        self.admission.submit(signed).await
    }
}
