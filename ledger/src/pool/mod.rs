//! Transactions that wait for their block: bounded, each once, in the order of arrival.
//!
//! A transaction stays until its block is applied, it is refused, or it expires; who leads decides
//! only where it is meanwhile. So a change of the leader loses nothing: what was on its way waits
//! again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lamplighter_contracts::admission::AdmissionError;
use lamplighter_types::limits::{BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX};
use lamplighter_types::{Hash, Id, PublicKey, Transaction, Verified};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::batch::{BATCH_OVERHEAD_BYTES, TRANSACTION_OVERHEAD_BYTES};
use crate::config::PoolLimits;
use crate::ticket::{Ticket, Verdict};

pub(crate) type Pending = Arc<Verified<Transaction>>;

/// The pool takes no more; nothing of what it has is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    #[error("the pool of waiting transactions is full")]
    Pool,
    #[error("this key has as many transactions waiting as its replay window has numbers")]
    Key,
    #[error("too many callers wait for this transaction")]
    Waiters,
    #[error("too many signatures wait to be verified")]
    Verifier,
    #[error("this node is read-only, its disk is nearly full; later, or another node")]
    ReadOnly,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting,
    /// In a batch of ours.
    Proposed,
    /// With the leader since.
    Forwarded(Instant),
}

struct Entry {
    transaction: Pending,
    place: Place,
    /// It was in a batch or with a leader, be it that it waits again: a block to come may have it.
    has_left: bool,
    waiters: Vec<oneshot::Sender<Verdict>>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Hash, Entry>,
    /// Those waiting, oldest first; hashes of entries that are gone are skipped.
    queue: VecDeque<Hash>,
    /// By key, in the order of their numbers.
    per_key: BTreeMap<PublicKey, BTreeSet<(u64, Hash)>>,
    bytes: usize,
}

pub(crate) struct Pool {
    inner: Mutex<Inner>,
    limits: PoolLimits,
    /// Something waits.
    filled: Notify,
}

fn size(transaction: &Verified<Transaction>) -> usize {
    transaction.envelope().payload.0.len() + TRANSACTION_OVERHEAD_BYTES
}

impl Pool {
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            inner: Mutex::default(),
            limits,
            filled: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nobody panics with the pool locked")
    }

    /// Adds a caller to a transaction that is here already.
    pub fn join(&self, hash: &Hash) -> Option<Result<Ticket, Busy>> {
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(hash)?;
        Some(wait_for(entry, *hash, self.limits.waiters_max))
    }

    /// Takes a transaction in and promises its verdict; one that is here already is joined.
    pub fn insert(&self, transaction: Pending) -> Result<Ticket, Busy> {
        let hash = transaction.hash();
        // Under one lock: it may be applied as soon as it can be seen.
        let mut inner = self.lock();
        self.put(&mut inner, transaction)?;
        let entry = inner.entries.get_mut(&hash).expect("it was just put there");
        wait_for(entry, hash, self.limits.waiters_max)
    }

    /// Takes a transaction in for which nobody waits here.
    pub fn add(&self, transaction: Pending) -> Result<(), Busy> {
        self.put(&mut self.lock(), transaction)
    }

    fn put(&self, inner: &mut Inner, transaction: Pending) -> Result<(), Busy> {
        let (hash, key) = (transaction.hash(), transaction.envelope().key);
        if inner.entries.contains_key(&hash) {
            return Ok(());
        }
        let bytes = size(&transaction);
        let full = inner.entries.len() >= self.limits.transactions_max
            || inner.bytes + bytes > self.limits.bytes_max;
        if full {
            return Err(Busy::Pool);
        }
        let of_key = inner.per_key.get(&key).map_or(0, BTreeSet::len);
        if of_key >= self.limits.per_key_max {
            return Err(Busy::Key);
        }
        let name = (transaction.get().sequence, hash);
        inner.per_key.entry(key).or_default().insert(name);
        inner.bytes += bytes;
        inner.queue.push_back(hash);
        let entry = Entry {
            transaction,
            place: Place::Waiting,
            has_left: false,
            waiters: Vec::new(),
        };
        inner.entries.insert(hash, entry);
        self.filled.notify_one();
        Ok(())
    }

    /// The verified form of a transaction, if it is here with the same signature.
    pub fn verified(&self, hash: &Hash) -> Option<Pending> {
        self.lock()
            .entries
            .get(hash)
            .map(|entry| entry.transaction.clone())
    }

    /// The keys that have transactions here, each with the account in whose name they are.
    pub fn keys(&self) -> Vec<(PublicKey, Id)> {
        let inner = self.lock();
        let sender = |names: &BTreeSet<(u64, Hash)>| {
            let (_, hash) = names.first()?;
            Some(inner.entries.get(hash)?.transaction.get().sender.clone())
        };
        let keys = inner.per_key.iter();
        keys.filter_map(|(key, names)| Some((*key, sender(names)?)))
            .collect()
    }

    pub fn has_key(&self, key: &PublicKey) -> bool {
        self.lock().per_key.contains_key(key)
    }

    /// Those of a key whose sequence numbers are asked for, in the order of the numbers.
    pub fn of_key(&self, key: &PublicKey, wants: impl Fn(u64) -> bool) -> Vec<Pending> {
        let inner = self.lock();
        let names = inner.per_key.get(key).into_iter().flatten();
        let wanted = names.filter(|(sequence, _)| wants(*sequence));
        let entries = wanted.filter_map(|(_, hash)| inner.entries.get(hash));
        entries.map(|entry| entry.transaction.clone()).collect()
    }

    /// The oldest waiting transactions that fit one batch; they count as proposed.
    pub fn take_batch(&self) -> Vec<Pending> {
        self.take(
            BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES,
            BATCH_TRANSACTIONS_MAX,
            Place::Proposed,
        )
    }

    /// As many as fit `bytes_max`; they count as passed to the leader.
    pub fn take_to_forward(&self, bytes_max: usize, count_max: usize) -> Vec<Pending> {
        self.take(bytes_max, count_max, Place::Forwarded(Instant::now()))
    }

    fn take(&self, bytes_max: usize, count_max: usize, place: Place) -> Vec<Pending> {
        let mut inner = self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < count_max {
            let Some(hash) = inner.queue.pop_front() else {
                break;
            };
            let Some(entry) = inner.entries.get_mut(&hash) else {
                continue;
            };
            if entry.place != Place::Waiting {
                continue;
            }
            bytes += size(&entry.transaction);
            if bytes > bytes_max {
                inner.queue.push_front(hash);
                break;
            }
            entry.place = place;
            entry.has_left = true;
            taken.push(entry.transaction.clone());
        }
        taken
    }

    /// Puts transactions back in front: they were taken, and are in no block.
    pub fn give_back(&self, hashes: impl DoubleEndedIterator<Item = Hash>) {
        let mut inner = self.lock();
        for hash in hashes.rev() {
            if let Some(entry) = inner.entries.get_mut(&hash)
                && entry.place != Place::Waiting
            {
                entry.place = Place::Waiting;
                inner.queue.push_front(hash);
            }
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Everything waits again: the leader has changed.
    pub fn give_all_back(&self) {
        self.give_back_if(|_| true);
    }

    /// What the leader has had for longer than `patience` waits again.
    pub fn give_stale_back(&self, patience: Duration) {
        let now = Instant::now();
        self.give_back_if(
            |place| matches!(place, Place::Forwarded(since) if now - since > patience),
        );
    }

    fn give_back_if(&self, stale: impl Fn(Place) -> bool) {
        let mut inner = self.lock();
        let mut given = false;
        let Inner { entries, queue, .. } = &mut *inner;
        for (hash, entry) in entries.iter_mut() {
            if entry.place != Place::Waiting && stale(entry.place) {
                entry.place = Place::Waiting;
                queue.push_back(*hash);
                given = true;
            }
        }
        drop(inner);
        if given {
            self.filled.notify_one();
        }
    }

    /// A transaction's fate is known: it leaves, and those who wait are told.
    pub fn resolve(&self, hash: &Hash, verdict: &Verdict) {
        self.resolve_if(hash, verdict, |_| true);
    }

    /// As [`resolve`](Self::resolve), unless the transaction was ever on its way: then a block to
    /// come may have it.
    pub fn resolve_unsent(&self, hash: &Hash, verdict: &Verdict) {
        self.resolve_if(hash, verdict, |entry| !entry.has_left);
    }

    fn resolve_if(&self, hash: &Hash, verdict: &Verdict, may: impl Fn(&Entry) -> bool) {
        let mut inner = self.lock();
        if !inner.entries.get(hash).is_some_and(may) {
            return;
        }
        let Some(entry) = inner.remove(hash) else {
            return;
        };
        drop(inner);
        for waiter in entry.waiters {
            // A caller that has gone away needs no answer.
            let _ = waiter.send(verdict.clone());
        }
    }

    /// Drops what can no longer happen at block time `time_ms`.
    pub fn expire(&self, time_ms: u64) {
        let gone: Vec<_> = {
            let inner = self.lock();
            let entries = inner.entries.iter();
            let old = entries.filter(|(_, e)| e.transaction.get().expires_ms <= time_ms);
            old.map(|(hash, e)| (*hash, e.transaction.get().expires_ms))
                .collect()
        };
        for (hash, expires_ms) in gone {
            let refusal = AdmissionError::Expired {
                expires_ms,
                time_ms,
            };
            self.resolve(&hash, &Verdict::Refused(refusal));
        }
    }

    /// Waits until something may be waiting.
    pub async fn filled(&self) {
        if self.lock().queue.is_empty() {
            self.filled.notified().await;
        }
    }

    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }
}

impl Inner {
    fn remove(&mut self, hash: &Hash) -> Option<Entry> {
        let entry = self.entries.remove(hash)?;
        self.bytes -= size(&entry.transaction);
        let key = entry.transaction.envelope().key;
        if let Some(of_key) = self.per_key.get_mut(&key) {
            of_key.remove(&(entry.transaction.get().sequence, *hash));
            if of_key.is_empty() {
                self.per_key.remove(&key);
            }
        }
        // Hashes of removed entries stay in the queue until they come to its front; this bounds
        // them.
        if self.queue.len() > 2 * self.entries.len() + 1_024 {
            let Self { entries, queue, .. } = self;
            queue.retain(|hash| entries.get(hash).is_some_and(|e| e.place == Place::Waiting));
        }
        Some(entry)
    }
}

fn wait_for(entry: &mut Entry, hash: Hash, waiters_max: usize) -> Result<Ticket, Busy> {
    entry.waiters.retain(|waiter| !waiter.is_closed());
    if entry.waiters.len() >= waiters_max {
        return Err(Busy::Waiters);
    }
    let (sender, receiver) = oneshot::channel();
    entry.waiters.push(sender);
    Ok(Ticket::later(hash, receiver))
}

#[cfg(test)]
mod tests;
