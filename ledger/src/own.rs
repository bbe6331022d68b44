//! The node's own transactions: the artifacts it holds, the operations it relays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_contracts::users;
use lamplighter_state::StateError;
use lamplighter_types::{Action, Encoding, Id, SecretKey, SignedTransaction, Transaction};

use crate::handle::SubmitError;
use crate::inner::Inner;
use crate::ticket::Ticket;

/// How long an own transaction may be on its way.
const EXPIRES_AFTER_MS: u64 = 10 * 60 * 1000;

/// The account of this node.
pub(crate) struct Own {
    pub account: Id,
    pub secret: SecretKey,
    /// The last sequence number given out by this process.
    last: AtomicU64,
}

impl Own {
    pub fn new(account: Id, secret: SecretKey) -> Self {
        Self {
            account,
            secret,
            last: AtomicU64::new(0),
        }
    }

    /// A number above those in the state and those of this process. One that was in flight at a
    /// crash may come again; it is then refused, and the next try has a higher one.
    fn next_sequence(&self, inner: &Inner) -> Result<u64, StateError> {
        let view = inner.chain.newest_view();
        let highest = users::replay_window(&view, &self.secret.public())?.highest();
        self.last.fetch_max(highest, Ordering::SeqCst);
        Ok(self.last.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// Signs and submits an action of this node.
pub(crate) async fn submit(inner: &Arc<Inner>, action: Action) -> Result<Ticket, SubmitError> {
    let own = &inner.own;
    let sequence = own.next_sequence(inner)?;
    let now_ms = inner.clock.now_ms().max(inner.chain.head().timestamp_ms);
    let transaction = Transaction {
        sender: own.account.clone(),
        sequence,
        expires_ms: now_ms + EXPIRES_AFTER_MS,
        action,
    };
    let chain_id = inner.chain.chain_id();
    let signed = SignedTransaction::sign(&transaction, Encoding::Bincode, &chain_id, &own.secret);
    crate::handle::submit(inner, signed).await
}
