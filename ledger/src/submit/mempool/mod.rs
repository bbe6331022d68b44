//! Transactions that wait for their block: bounded, each once, for each account in the order of
//! arrival; and the tickets of the callers who wait for them.
//!
//! A transaction stays until its block is applied, it is refused, or it expires; which node leads
//! only decides its [`EntryStatus`] meanwhile. So a change of the leader loses nothing: what was in
//! flight is queued again.

mod queue;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lamplighter_contracts::admission::AdmissionError;
use lamplighter_types::limits::{BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX};
use lamplighter_types::{Hash, Id, PublicKey, Transaction, Verified};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::chain::Commitment;
use crate::config::MempoolLimits;
use queue::FairQueue;

/// Bytes that a transaction adds to an encoded batch, beyond its payload: encoding, key, length,
/// signature.
const TRANSACTION_OVERHEAD_BYTES: usize = 4 + 32 + 8 + 64;
/// Bytes of an encoded batch beside its transactions.
const BATCH_OVERHEAD_BYTES: usize = 32 + 8 + 8;

pub(crate) type PendingTransaction = Arc<Verified<Transaction>>;

/// The node takes no more transactions now; those that it has are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    #[error("the pool of waiting transactions is full")]
    Mempool,
    #[error("this key has as many transactions waiting as its replay window has numbers")]
    Key,
    #[error("this account has as many transactions waiting as one account may have")]
    Account,
    #[error("too many callers wait for this transaction")]
    Waiters,
    #[error("too many signatures wait to be verified")]
    Verifier,
    #[error("this node is read-only, its disk is nearly full; later, or another node")]
    ReadOnly,
    #[error("this node has known no leader for {seconds} s; send the same bytes to another node")]
    NoLeader { seconds: u64 },
    #[error("this node has halted; send the same bytes to another node")]
    Halted,
}

impl Busy {
    /// True if this node can't get anything into a block now, while another may.
    pub fn is_cut_off(&self) -> bool {
        matches!(self, Self::NoLeader { .. } | Self::Halted)
    }
}

/// The fate of a submitted transaction.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The transaction is in a block, durable on a majority.
    Committed(Commitment),
    /// The transaction was left out: it can't be in any block as things stand.
    Refused(AdmissionError),
    /// The node stopped before the verdict.
    Unknown,
}

/// The promise of a verdict.
#[derive(Debug)]
pub struct Ticket {
    /// The transaction's name.
    pub hash: Hash,
    state: TicketState,
}

#[derive(Debug)]
enum TicketState {
    Resolved(Verdict),
    Pending(oneshot::Receiver<Verdict>),
}

impl Ticket {
    pub(crate) fn resolved(hash: Hash, verdict: Verdict) -> Self {
        let state = TicketState::Resolved(verdict);
        Self { hash, state }
    }

    fn pending(hash: Hash, receiver: oneshot::Receiver<Verdict>) -> Self {
        let state = TicketState::Pending(receiver);
        Self { hash, state }
    }

    /// Waits for the verdict. Bound it by a deadline: a cluster without a quorum gives no verdict,
    /// and the transaction may still happen until it expires.
    pub async fn verdict(self) -> Verdict {
        match self.state {
            TicketState::Resolved(verdict) => verdict,
            TicketState::Pending(receiver) => receiver.await.unwrap_or(Verdict::Unknown),
        }
    }
}

/// The progress of a pending transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryStatus {
    Queued,
    /// In a batch that this node proposed.
    Proposed,
    /// Forwarded to the leader at this time.
    Forwarded(Instant),
}

struct MempoolEntry {
    transaction: PendingTransaction,
    status: EntryStatus,
    /// Set once it was proposed or forwarded, even if it is queued again: a block to come may have
    /// it.
    was_sent: bool,
    waiters: Vec<oneshot::Sender<Verdict>>,
}

#[derive(Default)]
struct MempoolState {
    entries: HashMap<Hash, MempoolEntry>,
    /// The queued ones; hashes of removed entries are skipped.
    queue: FairQueue,
    /// The sequence numbers and hashes of each key's transactions.
    per_key: BTreeMap<PublicKey, BTreeSet<(u64, Hash)>>,
    /// The number of each account's transactions.
    per_account: BTreeMap<Id, usize>,
    bytes: usize,
}

pub(crate) struct Mempool {
    /// Everything that changes, so that entries, queue and sizes always agree.
    state: Mutex<MempoolState>,
    limits: MempoolLimits,
    /// Signals that the queue may have something.
    nonempty: Notify,
}

fn size(transaction: &Verified<Transaction>) -> usize {
    transaction.envelope().payload.0.len() + TRANSACTION_OVERHEAD_BYTES
}

impl Mempool {
    pub fn new(limits: MempoolLimits) -> Self {
        Self {
            state: Mutex::default(),
            limits,
            nonempty: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, MempoolState> {
        self.state
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    /// A further ticket for a transaction that is pending already.
    pub fn join(&self, hash: &Hash) -> Option<Result<Ticket, Busy>> {
        let mut state = self.lock();
        let entry = state.entries.get_mut(hash)?;
        Some(add_waiter(entry, *hash, self.limits.waiters_max))
    }

    /// Adds a transaction and returns its ticket; a pending one gets a further ticket.
    pub fn insert(&self, transaction: PendingTransaction) -> Result<Ticket, Busy> {
        let hash = transaction.hash();
        // Under one lock: a block may resolve the transaction as soon as others see it.
        let mut state = self.lock();
        self.put(&mut state, transaction)?;
        let entry = state.entries.get_mut(&hash).expect("it was just put there");
        add_waiter(entry, hash, self.limits.waiters_max)
    }

    /// Adds a transaction without a ticket.
    pub fn add(&self, transaction: PendingTransaction) -> Result<(), Busy> {
        self.put(&mut self.lock(), transaction)
    }

    fn put(&self, state: &mut MempoolState, transaction: PendingTransaction) -> Result<(), Busy> {
        let (hash, key) = (transaction.hash(), transaction.envelope().key);
        if state.entries.contains_key(&hash) {
            return Ok(());
        }
        let bytes = size(&transaction);
        let full = state.entries.len() >= self.limits.transactions_max
            || state.bytes + bytes > self.limits.bytes_max;
        if full {
            return Err(Busy::Mempool);
        }
        let count = state.per_key.get(&key).map_or(0, BTreeSet::len);
        if count >= self.limits.per_key_max {
            return Err(Busy::Key);
        }
        let account = transaction.get().sender.clone();
        let count = state.per_account.get(&account).copied().unwrap_or(0);
        if count >= self.limits.per_account_max {
            return Err(Busy::Account);
        }
        state.queue.push_back(&account, hash);
        state.per_account.insert(account, count + 1);
        let numbered = (transaction.get().sequence, hash);
        state.per_key.entry(key).or_default().insert(numbered);
        state.bytes += bytes;
        let entry = MempoolEntry {
            transaction,
            status: EntryStatus::Queued,
            was_sent: false,
            waiters: Vec::new(),
        };
        state.entries.insert(hash, entry);
        self.nonempty.notify_one();
        Ok(())
    }

    /// The pending transaction with this hash.
    pub fn get(&self, hash: &Hash) -> Option<PendingTransaction> {
        self.lock()
            .entries
            .get(hash)
            .map(|entry| entry.transaction.clone())
    }

    /// The keys that have pending transactions, each with the account that it signs for.
    pub fn keys(&self) -> Vec<(PublicKey, Id)> {
        let state = self.lock();
        let sender = |numbered: &BTreeSet<(u64, Hash)>| {
            let (_, hash) = numbered.first()?;
            Some(state.entries.get(hash)?.transaction.get().sender.clone())
        };
        let keys = state.per_key.iter();
        keys.filter_map(|(key, numbered)| Some((*key, sender(numbered)?)))
            .collect()
    }

    pub fn has_key(&self, key: &PublicKey) -> bool {
        self.lock().per_key.contains_key(key)
    }

    /// A key's pending transactions with the sequence numbers that `selects` picks, in the order of
    /// the numbers.
    pub fn of_key(
        &self,
        key: &PublicKey,
        selects: impl Fn(u64) -> bool,
    ) -> Vec<PendingTransaction> {
        let state = self.lock();
        let numbered = state.per_key.get(key).into_iter().flatten();
        let selected = numbered.filter(|(sequence, _)| selects(*sequence));
        let entries = selected.filter_map(|(_, hash)| state.entries.get(hash));
        entries.map(|entry| entry.transaction.clone()).collect()
    }

    /// The queued transactions that are next and fit one batch; they count as proposed.
    pub fn dequeue_batch(&self) -> Vec<PendingTransaction> {
        self.dequeue(
            BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES,
            BATCH_TRANSACTIONS_MAX,
            EntryStatus::Proposed,
        )
    }

    /// The queued transactions that are next, within both limits; they count as forwarded to the
    /// leader.
    pub fn dequeue_to_forward(
        &self,
        bytes_max: usize,
        count_max: usize,
    ) -> Vec<PendingTransaction> {
        self.dequeue(bytes_max, count_max, EntryStatus::Forwarded(Instant::now()))
    }

    fn dequeue(
        &self,
        bytes_max: usize,
        count_max: usize,
        status: EntryStatus,
    ) -> Vec<PendingTransaction> {
        let mut state = self.lock();
        let (mut dequeued, mut bytes) = (Vec::new(), 0);
        while dequeued.len() < count_max {
            let Some((account, hash)) = state.queue.pop_front() else {
                break;
            };
            let Some(entry) = state.entries.get_mut(&hash) else {
                continue;
            };
            if entry.status != EntryStatus::Queued {
                continue;
            }
            bytes += size(&entry.transaction);
            if bytes > bytes_max {
                state.queue.unpop(account, hash);
                break;
            }
            entry.status = status;
            entry.was_sent = true;
            dequeued.push(entry.transaction.clone());
        }
        dequeued
    }

    /// Queues dequeued transactions again, in front: they are in no block.
    pub fn requeue(&self, hashes: impl DoubleEndedIterator<Item = Hash>) {
        let mut state = self.lock();
        for hash in hashes.rev() {
            if let Some(entry) = state.entries.get_mut(&hash)
                && entry.status != EntryStatus::Queued
            {
                entry.status = EntryStatus::Queued;
                let account = entry.transaction.get().sender.clone();
                state.queue.push_front(&account, hash);
            }
        }
        drop(state);
        self.nonempty.notify_one();
    }

    /// Queues everything again: the leader has changed.
    pub fn requeue_all(&self) {
        self.requeue_if(|_| true);
    }

    /// Queues transactions again that were forwarded to the leader longer than `timeout` ago.
    pub fn requeue_overdue(&self, timeout: Duration) {
        let now = Instant::now();
        self.requeue_if(
            |status| matches!(status, EntryStatus::Forwarded(at) if now - at > timeout),
        );
    }

    fn requeue_if(&self, is_lost: impl Fn(EntryStatus) -> bool) {
        let mut state = self.lock();
        let mut requeued = false;
        let MempoolState { entries, queue, .. } = &mut *state;
        for (hash, entry) in entries.iter_mut() {
            if entry.status != EntryStatus::Queued && is_lost(entry.status) {
                entry.status = EntryStatus::Queued;
                queue.push_back(&entry.transaction.get().sender, *hash);
                requeued = true;
            }
        }
        drop(state);
        if requeued {
            self.nonempty.notify_one();
        }
    }

    /// Removes a transaction and sends its verdict to the waiters.
    pub fn resolve(&self, hash: &Hash, verdict: &Verdict) {
        self.resolve_if(hash, verdict, |_| true);
    }

    /// Does the same as [`resolve`](Self::resolve), unless the transaction was ever sent: then a
    /// block to come may have it.
    pub fn resolve_unsent(&self, hash: &Hash, verdict: &Verdict) {
        self.resolve_if(hash, verdict, |entry| !entry.was_sent);
    }

    fn resolve_if(
        &self,
        hash: &Hash,
        verdict: &Verdict,
        condition: impl Fn(&MempoolEntry) -> bool,
    ) {
        let mut state = self.lock();
        if !state.entries.get(hash).is_some_and(condition) {
            return;
        }
        let Some(entry) = state.remove(hash) else {
            return;
        };
        drop(state);
        for waiter in entry.waiters {
            // The caller may have stopped waiting.
            let _ = waiter.send(verdict.clone());
        }
    }

    /// Refuses the transactions that are expired at block time `time_ms`.
    pub fn expire(&self, time_ms: u64) {
        let expired: Vec<_> = {
            let state = self.lock();
            let entries = state.entries.iter();
            let expired = entries.filter(|(_, e)| e.transaction.get().expires_ms <= time_ms);
            expired
                .map(|(hash, e)| (*hash, e.transaction.get().expires_ms))
                .collect()
        };
        for (hash, expires_ms) in expired {
            let refusal = AdmissionError::Expired {
                expires_ms,
                time_ms,
            };
            self.resolve(&hash, &Verdict::Refused(refusal));
        }
    }

    /// Waits until the queue may have something.
    pub async fn wait_nonempty(&self) {
        if self.lock().queue.is_empty() {
            self.nonempty.notified().await;
        }
    }

    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }
}

impl MempoolState {
    fn remove(&mut self, hash: &Hash) -> Option<MempoolEntry> {
        let entry = self.entries.remove(hash)?;
        self.bytes -= size(&entry.transaction);
        let key = entry.transaction.envelope().key;
        if let Some(numbered) = self.per_key.get_mut(&key) {
            numbered.remove(&(entry.transaction.get().sequence, *hash));
            if numbered.is_empty() {
                self.per_key.remove(&key);
            }
        }
        let account = &entry.transaction.get().sender;
        if let Some(count) = self.per_account.get_mut(account) {
            *count -= 1;
            if *count == 0 {
                self.per_account.remove(account);
            }
        }
        // Hashes of removed entries stay in the queue until they come to its front; this bounds
        // them.
        if self.queue.len() > 2 * self.entries.len() + 1_024 {
            let Self { entries, queue, .. } = self;
            queue.retain(|hash| {
                entries
                    .get(hash)
                    .is_some_and(|e| e.status == EntryStatus::Queued)
            });
        }
        Some(entry)
    }
}

fn add_waiter(entry: &mut MempoolEntry, hash: Hash, waiters_max: usize) -> Result<Ticket, Busy> {
    entry.waiters.retain(|waiter| !waiter.is_closed());
    if entry.waiters.len() >= waiters_max {
        return Err(Busy::Waiters);
    }
    let (sender, receiver) = oneshot::channel();
    entry.waiters.push(sender);
    Ok(Ticket::pending(hash, receiver))
}

#[cfg(test)]
mod tests;
