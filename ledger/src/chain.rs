//! The chain of this node: its head, state tree, membership and certificates. The state machine
//! adds blocks, the certifier adds certificates, every task reads.

mod certified;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use lamplighter_contracts::admission::AdmissionError;
use lamplighter_contracts::{Reader, governance};
use lamplighter_state::tables::BlockLists;
use lamplighter_state::tree::Tree;
use lamplighter_state::{Changes, RecordCache, StateError, View, set_path, tables};
use lamplighter_store::{Durability, Kv, KvView, WriteBatch};
use lamplighter_types::merkle::History;
use lamplighter_types::proof::{TrustedSet, VALIDATOR_SET_KEY};
use lamplighter_types::{
    Certificate, Genesis, Hash, Header, Receipt, Transaction, ValidatorSet, Verified,
};
use tokio::sync::watch;

use crate::membership::{Membership, NamedNodes, RaftMembers};

/// Height, hash and time of the newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadInfo {
    pub height: u64,
    pub hash: Hash,
    /// Unix time in ms of the block.
    pub timestamp_ms: u64,
}

/// The reason why a node applies no more blocks. It stays readable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    #[error(
        "a quorum certified the header {certified} at height {height}, this node computed another"
    )]
    Contradiction { height: u64, certified: Hash },
    #[error("the store failed: {0}")]
    Store(String),
    #[error("a block can't be applied: {0}")]
    Block(String),
    #[error("an image can't be installed: {0}")]
    Image(String),
}

/// The base of the next block.
pub(crate) struct Head {
    pub header: Header,
    pub hash: Hash,
    pub tree: Tree,
    pub history: History,
    /// The set in force for the next block.
    pub validators: Arc<ValidatorSet>,
}

/// A block that was executed and is not written yet.
pub(crate) struct ExecutedBlock {
    pub header: Header,
    pub transactions: Vec<Arc<Verified<Transaction>>>,
    pub receipts: Vec<Arc<Receipt>>,
    /// Transactions of the batch that are left out of the block.
    pub refused: Vec<(Hash, AdmissionError)>,
    pub changes: Changes,
    /// Transactions, receipts and events as they are hashed and stored.
    pub lists: BlockLists,
}

/// A transaction's place in the chain, and its receipt.
#[derive(Clone, Debug)]
pub struct Commitment {
    pub height: u64,
    /// Index among the transactions of the block.
    pub index: u32,
    pub receipt: Arc<Receipt>,
}

/// Memory for records of the newest state: those of some ten thousand senders and their devices.
const RECORD_CACHE_BYTES: usize = 8 << 20;

/// The source of all reads.
enum ReadSource {
    /// The store itself.
    Live(Arc<dyn KvView>),
    /// The store as it was before an image began to replace it.
    Pinned(Arc<dyn KvView>),
}

pub(crate) struct Chain {
    kv: Arc<dyn Kv>,
    genesis: Genesis,
    chain_id: Hash,
    /// The newest state, but for the time in which an image is installed.
    records: Arc<RecordCache>,
    /// Changed by the state machine alone, while an image is installed.
    source: RwLock<ReadSource>,
    /// Changed by the state machine alone. The lock is held over the write of a block, so that
    /// readers see state, tree and header of one height.
    head: RwLock<Head>,
    /// The head in short; changes after the lock of the head is released.
    newest: watch::Sender<HeadInfo>,
    certified: watch::Sender<u64>,
    peer_certified: AtomicU64,
    membership: watch::Sender<Membership>,
    halted: watch::Sender<Option<Halt>>,
}

impl Chain {
    pub fn new(kv: Arc<dyn Kv>, genesis: Genesis, head: Head) -> Result<Self, StateError> {
        let certified = tables::newest_certified(&*kv, 0)?.unwrap_or(0);
        // A crash may have come between a certificate and its step.
        set_path::extend(&*kv)?;
        let info = info(&head);
        let membership = Membership::at_start(
            named_nodes(&View::new(kv.clone()))?,
            certifying_set(&*kv, certified)?,
            set_before_last_change(&*kv)?.as_ref(),
        );
        Ok(Self {
            membership: watch::Sender::new(membership),
            source: RwLock::new(ReadSource::Live(kv.clone())),
            records: Arc::new(RecordCache::new(kv.clone(), RECORD_CACHE_BYTES)),
            kv,
            chain_id: genesis.chain_id(),
            genesis,
            head: RwLock::new(head),
            newest: watch::Sender::new(info),
            certified: watch::Sender::new(certified),
            peer_certified: AtomicU64::new(0),
            halted: watch::Sender::new(None),
        })
    }

    pub fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// The store for reading.
    pub fn store(&self) -> Arc<dyn KvView> {
        match &*self.source() {
            ReadSource::Live(store) | ReadSource::Pinned(store) => store.clone(),
        }
    }

    /// A view of the newest state, which changes with every block.
    pub fn live_view(&self) -> View {
        match &*self.source() {
            ReadSource::Live(_) => View::new(self.records.clone()),
            ReadSource::Pinned(view) => View::new(view.clone()),
        }
    }

    /// The cache of the newest state, for the one that writes it.
    pub fn records(&self) -> &RecordCache {
        &self.records
    }

    /// A view of the state as it is now, which later blocks do not change.
    pub fn consistent_view(&self) -> Result<View, StateError> {
        let view = match &*self.source() {
            ReadSource::Live(_) => self.kv.view()?,
            ReadSource::Pinned(view) => view.clone(),
        };
        Ok(View::new(view))
    }

    /// A view of the state as it is now, and its block. While a block is being written, which a
    /// busy disk may make long, the view itself says which block it shows: the rows of a block are
    /// written at once.
    pub fn newest_view(&self) -> Result<(View, HeadInfo), StateError> {
        if let Ok(head) = self.head.try_read() {
            return Ok((self.consistent_view()?, info(&head)));
        }
        let view = self.consistent_view()?;
        let store = &**view.store();
        let header = match tables::head_height(store)? {
            Some(height) => tables::header(store, height)?,
            None => None,
        };
        let info = match header {
            Some(header) => HeadInfo {
                height: header.height,
                hash: header.hash(),
                timestamp_ms: header.timestamp_ms,
            },
            // No open chain lacks its head.
            None => info(&self.read_head()),
        };
        Ok((view, info))
    }

    fn source(&self) -> RwLockReadGuard<'_, ReadSource> {
        self.source
            .read()
            .expect("the lock is not poisoned: no holder panics")
    }

    fn set_source(&self, source: ReadSource) {
        *self
            .source
            .write()
            .expect("the lock is not poisoned: no holder panics") = source;
    }

    /// Lets all reads see the store as it is now, until [`replace`](Self::replace).
    pub fn pin_reads(&self) -> Result<(), StateError> {
        self.set_source(ReadSource::Pinned(self.kv.view()?));
        Ok(())
    }

    /// Switches to a chain that was installed in the store.
    pub fn replace(&self, head: Head) -> Result<(), StateError> {
        let named = named_nodes(&View::new(self.kv.clone()))?;
        let certified = tables::newest_certified(&*self.kv, 0)?.unwrap_or(0);
        // The image has no steps: those of this node are of the same chain, and fewer perhaps.
        set_path::extend(&*self.kv)?;
        self.advance(|old| {
            *old = head;
            self.records.clear();
            self.set_source(ReadSource::Live(self.kv.clone()));
            Ok::<_, StateError>(())
        })?;
        self.raise_certified(certified);
        self.update_membership(Some(named))
    }

    /// A state tree without keys, which keeps its pages as that of this chain.
    pub fn empty_tree(&self) -> Tree {
        self.read_head().tree.empty_like()
    }

    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    pub fn chain_id(&self) -> Hash {
        self.chain_id
    }

    pub fn head(&self) -> HeadInfo {
        *self.newest.borrow()
    }

    pub fn watch_head(&self) -> watch::Receiver<HeadInfo> {
        self.newest.subscribe()
    }

    /// The membership and its changes.
    pub fn watch_membership(&self) -> watch::Receiver<Membership> {
        self.membership.subscribe()
    }

    /// Updates the membership with the nodes that the newest state names, if they changed, and with
    /// the set that must certify the first uncertified change.
    pub fn update_membership(&self, named: Option<NamedNodes>) -> Result<(), StateError> {
        let mut result = Ok(());
        self.membership.send_if_modified(|membership| {
            // Read under the lock of the membership: a block and a certificate may come at once,
            // and the later one must see the earlier one.
            match certifying_set(&*self.store(), self.certified_height()) {
                Ok(certifying) => membership.update(named, certifying),
                Err(error) => {
                    result = Err(error);
                    false
                }
            }
        });
        result
    }

    /// Releases the departing nodes that neither the ledger nor Raft needs any longer.
    pub fn release_departed(&self, raft: &RaftMembers) {
        self.membership
            .send_if_modified(|membership| membership.release(raft));
    }

    /// The height of the newest certificate that can be proven: a header that changes the
    /// validators holds up those above it until it has its own.
    pub fn certified_height(&self) -> u64 {
        *self.certified.borrow()
    }

    pub fn watch_certified(&self) -> watch::Receiver<u64> {
        self.certified.subscribe()
    }

    /// Digest of the batch that the newest block executed; zero before the first.
    pub fn last_batch(&self) -> Hash {
        self.read_head().header.batch
    }

    pub fn read_head(&self) -> RwLockReadGuard<'_, Head> {
        self.head
            .read()
            .expect("the lock is not poisoned: no holder panics")
    }

    /// Changes the head with `change`, which also writes it to the store, and notifies watchers.
    /// Readers see state, tree and header together.
    pub fn advance<T, E>(&self, change: impl FnOnce(&mut Head) -> Result<T, E>) -> Result<T, E> {
        let mut head = self
            .head
            .write()
            .expect("the lock is not poisoned: no holder panics");
        let result = change(&mut head)?;
        let info = info(&head);
        drop(head);
        self.newest.send_if_modified(|newest| {
            let changed = *newest != info;
            *newest = info;
            changed
        });
        Ok(result)
    }

    /// The set that certifies the header of `height`; beyond the head, the newest set.
    pub fn validators_at(&self, height: u64) -> Result<Arc<ValidatorSet>, StateError> {
        let head = self.read_head();
        if height > head.header.height {
            return Ok(head.validators.clone());
        }
        drop(head);
        let set = tables::validators_at(&*self.store(), height)?;
        Ok(Arc::new(set))
    }

    /// The newest validators that a certified block brought, those of the genesis file at first.
    pub fn trusted_set(&self) -> Result<TrustedSet, StateError> {
        let store = &*self.store();
        let below = self.certified_height().saturating_add(1);
        let height = tables::last_set_change(store, below)?.unwrap_or(0);
        Ok(TrustedSet {
            chain_id: self.chain_id,
            height,
            set: tables::validators_at(store, height + 1)?,
        })
    }

    /// Stores a certificate that was verified against this node's own header.
    pub fn add_certificate(&self, certificate: &Certificate) -> Result<(), StateError> {
        // The certificate of a set change must survive a crash: once its signers are removed, it
        // can't be made again.
        let of_change = self.lacks_certificate(certificate.height)?;
        let durability = if of_change {
            Durability::Synced
        } else {
            Durability::Unsynced
        };
        let mut batch = WriteBatch::new();
        tables::put_certificate(&mut batch, certificate);
        self.kv.write(batch, durability)?;
        if of_change {
            self.extend_set_path()?;
        }
        let newest = tables::newest_certified(&*self.kv, self.certified_height())?;
        self.raise_certified(newest.unwrap_or(0));
        let uncertified_change = {
            let membership = self.membership.borrow();
            membership.voters != membership.named.validators
        };
        if uncertified_change {
            self.update_membership(None)?;
        }
        Ok(())
    }

    fn raise_certified(&self, certified: u64) {
        self.certified.send_if_modified(|height| {
            let newer = certified > *height;
            *height = certified.max(*height);
            newer
        });
    }

    /// Writes the steps to the changes that are certified now, before proofs may lead over them.
    fn extend_set_path(&self) -> Result<(), StateError> {
        match &*self.source() {
            ReadSource::Live(_) => set_path::extend(&*self.kv),
            // An image is being installed: the rows are made when it is whole.
            ReadSource::Pinned(_) => Ok(()),
        }
    }

    /// Stops applying blocks for good; the first reason stays.
    pub fn halt(&self, reason: Halt) {
        self.halted.send_if_modified(|halted| {
            let first = halted.is_none();
            if first {
                *halted = Some(reason);
            }
            first
        });
    }

    pub fn halted(&self) -> Option<Halt> {
        self.halted.borrow().clone()
    }

    pub fn watch_halted(&self) -> watch::Receiver<Option<Halt>> {
        self.halted.subscribe()
    }

    /// The place and receipt of a transaction that is in the chain.
    pub fn commitment(&self, hash: &Hash) -> Result<Option<Commitment>, StateError> {
        let store = &*self.store();
        let Some((height, index)) = tables::transaction_place(store, hash)? else {
            return Ok(None);
        };
        let receipt = tables::receipt(store, height, index)?;
        let missing = || StateError::Missing {
            what: format!("the receipt {height}.{index}"),
        };
        let receipt = Arc::new(receipt.ok_or_else(missing)?);
        Ok(Some(Commitment {
            height,
            index,
            receipt,
        }))
    }
}

fn info(head: &Head) -> HeadInfo {
    HeadInfo {
        height: head.header.height,
        hash: head.hash,
        timestamp_ms: head.header.timestamp_ms,
    }
}

/// Adds a block to a write: its records, the header's place in the history, and the validators that
/// follow.
///
/// # Errors
/// The state tree can't prove the validators.
pub(crate) fn put_block(
    writes: &mut WriteBatch,
    head: &mut Head,
    block: &ExecutedBlock,
    validators: Option<&ValidatorSet>,
) -> Result<(), StateError> {
    let ExecutedBlock {
        header,
        transactions,
        receipts,
        changes,
        lists,
        refused: _,
    } = block;
    tables::put_changes(writes, changes);
    let events = &changes.events;
    tables::put_encoded_block(writes, header, lists, transactions, receipts, events);
    tables::put_history(writes, &head.history.append(&header.hash()));
    // Observers stand in the same record.
    let is_genesis = header.height == 0;
    if let Some(validators) = validators.filter(|next| is_genesis || **next != *head.validators) {
        let path = head.tree.prove(VALIDATOR_SET_KEY)?;
        tables::put_validators(writes, header.height, validators, &path);
    }
    Ok(())
}

/// The nodes that a state names.
pub(crate) fn named_nodes(reader: &impl Reader) -> Result<NamedNodes, StateError> {
    Ok(NamedNodes {
        validators: Arc::new(governance::validator_set(reader)?),
        observers: governance::observers(reader)?,
    })
}

/// The validators before the newest change of the set, if it ever changed.
fn set_before_last_change(store: &dyn KvView) -> Result<Option<ValidatorSet>, StateError> {
    let last = tables::last_set_change(store, u64::MAX)?;
    let set = last.map(|height| tables::validators_at(store, height));
    set.transpose()
}

fn first_uncertified_change(store: &dyn KvView, certified: u64) -> Result<Option<u64>, StateError> {
    let above = certified.saturating_add(1);
    for change in tables::set_changes(store, above..u64::MAX)? {
        let (height, ..) = change?;
        if tables::certificate(store, height)?.is_none() {
            return Ok(Some(height));
        }
    }
    Ok(None)
}

/// The set that must certify the first uncertified change of the validators, if there is one.
fn certifying_set(
    store: &dyn KvView,
    certified: u64,
) -> Result<Option<Arc<ValidatorSet>>, StateError> {
    let height = first_uncertified_change(store, certified)?;
    let set = height.map(|height| tables::validators_at(store, height));
    Ok(set.transpose()?.map(Arc::new))
}
