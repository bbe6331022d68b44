//! Resolves tickets: every pending transaction whose fate the state decides gets its verdict at
//! once, on whichever node it waits.
//!
//! A block resolves the transactions that it contains. It may also decide over others: another
//! transaction used the same sequence number, or the key was revoked. A disabled account may be
//! enabled again, so it only decides over transactions that never left this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_contracts::admission::{self, AdmissionError};
use lamplighter_contracts::tables::Table;
use lamplighter_contracts::users;
use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Hash, Id, PublicKey};

use super::mempool::{Mempool, PendingTransaction, Verdict};
use crate::chain::{Chain, Commitment, ExecutedBlock};

#[derive(Clone)]
pub(crate) struct TicketResolver {
    chain: Arc<Chain>,
    mempool: Arc<Mempool>,
}

impl TicketResolver {
    pub fn new(chain: Arc<Chain>, mempool: Arc<Mempool>) -> Self {
        Self { chain, mempool }
    }

    /// Resolves the transactions of a block that was written, and the pending ones that it decides
    /// over.
    pub fn resolve_block(&self, block: &ExecutedBlock) -> Result<(), StateError> {
        let height = block.header.height;
        let included = block.transactions.iter().zip(&block.receipts).zip(0u32..);
        for ((transaction, receipt), index) in included {
            let verdict = Verdict::Committed(Commitment {
                height,
                index,
                receipt: receipt.clone(),
            });
            self.mempool.resolve(&transaction.hash(), &verdict);
        }
        for (hash, refusal) in &block.refused {
            let verdict = self.verdict(hash, refusal.clone())?;
            self.mempool.resolve(hash, &verdict);
        }
        for (key, sender) in self.touched_keys(block) {
            if self.mempool.has_key(&key) {
                self.resolve_key(&key, &sender)?;
            }
        }
        self.mempool.expire(block.header.timestamp_ms);
        Ok(())
    }

    /// Resolves every pending transaction that is decided: an image replaced the chain by a newer
    /// one.
    pub fn resolve_all(&self) -> Result<(), StateError> {
        for (key, _) in self.mempool.keys() {
            for transaction in self.mempool.of_key(&key, |_| true) {
                self.resolve_if_decided(&transaction)?;
            }
        }
        Ok(())
    }

    /// Resolves a transaction that is in the chain, or that this node sees refused.
    pub fn resolve_if_decided(&self, transaction: &PendingTransaction) -> Result<(), StateError> {
        let time_ms = self.chain.head().timestamp_ms;
        let overlay = Overlay::new(self.chain.live_view());
        match admission::admit(&overlay, transaction, time_ms)? {
            Ok(_) => Ok(()),
            Err(refusal) => self.refuse(transaction, refusal),
        }
    }

    /// The keys whose numbers, record or account the block changed, with their accounts.
    fn touched_keys(&self, block: &ExecutedBlock) -> BTreeMap<PublicKey, Id> {
        let signed = block.transactions.iter();
        let signed = signed.map(|t| (t.envelope().key, t.get().sender.clone()));
        let mut touched: BTreeMap<_, _> = signed.collect();
        let writes = &block.changes.writes;
        let user_tables = [Table::Key as u8, Table::Account as u8];
        let is_user = |key: &[u8]| key.first().is_some_and(|table| user_tables.contains(table));
        // Only the few blocks that register, revoke or disable write these tables.
        if writes.keys().any(|key| is_user(key)) {
            touched.extend(self.mempool.keys().into_iter().filter(|(key, sender)| {
                let (key, account) = (users::keys::key(key), users::keys::account(sender));
                writes.contains_key(key.as_bytes()) || writes.contains_key(account.as_bytes())
            }));
        }
        touched
    }

    /// Resolves the decided transactions of one key. A thousand may wait, so the key's standing is
    /// read once.
    fn resolve_key(&self, key: &PublicKey, sender: &Id) -> Result<(), StateError> {
        let standing = admission::standing(&self.chain.live_view(), key, sender)?;
        let refusal = |sequence| match &standing {
            Err(refusal) => Some(refusal.clone()),
            Ok((_, window)) => window.check(sequence).err().map(AdmissionError::from),
        };
        let refused = |sequence| refusal(sequence).is_some();
        for transaction in self.mempool.of_key(key, refused) {
            if let Some(refusal) = refusal(transaction.get().sequence) {
                self.refuse(&transaction, refusal)?;
            }
        }
        Ok(())
    }

    /// Resolves a transaction that can't be admitted now. A refusal that is not permanent is no
    /// verdict on one that was ever sent: a block with it may come after one that admits it again,
    /// whatever other nodes have answered since.
    fn refuse(
        &self,
        transaction: &PendingTransaction,
        refusal: AdmissionError,
    ) -> Result<(), StateError> {
        let (hash, permanent) = (transaction.hash(), is_permanent(&refusal));
        match self.verdict(&hash, refusal)? {
            refused @ Verdict::Refused(_) if !permanent => {
                self.mempool.resolve_unsent(&hash, &refused);
            }
            verdict => self.mempool.resolve(&hash, &verdict),
        }
        Ok(())
    }

    /// The verdict on a transaction that can't be admitted. A used number may have been used by
    /// this very transaction: then its receipt is the verdict.
    fn verdict(&self, hash: &Hash, refusal: AdmissionError) -> Result<Verdict, StateError> {
        Ok(match self.chain.commitment(hash)? {
            Some(commitment) => Verdict::Committed(commitment),
            None => Verdict::Refused(refusal),
        })
    }
}

/// Returns whether no block to come can change the refusal.
fn is_permanent(refusal: &AdmissionError) -> bool {
    match refusal {
        AdmissionError::KeyRevoked { .. }
        | AdmissionError::NotYourKey { .. }
        | AdmissionError::Expired { .. }
        | AdmissionError::SequenceUsed { .. }
        | AdmissionError::SequenceTooOld { .. }
        | AdmissionError::SequenceOutOfRange => true,
        AdmissionError::UnknownKey { .. }
        | AdmissionError::AccountDisabled { .. }
        | AdmissionError::ExpiresTooLate { .. }
        | AdmissionError::ProtocolVersion { .. }
        | AdmissionError::SequenceTooFar { .. } => false,
    }
}
