//! Where the chain stands on this node: its head, the state tree, who validates, what is certified.
//! Written by the state machine alone, read by everybody.

use std::ops::Range;
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};

use lamplighter_contracts::{Reader, governance};
use lamplighter_state::tree::Tree;
use lamplighter_state::{StateError, View, tables};
use lamplighter_store::{Batch, Durability, Kv, KvView};
use lamplighter_types::limits::SET_CHANGES_MAX;
use lamplighter_types::merkle::History;
use lamplighter_types::{Certificate, Genesis, Hash, Header, ValidatorSet};
use tokio::sync::watch;

use crate::membership::{Membership, NamedNodes, RaftMembers};

/// The newest block, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadInfo {
    pub height: u64,
    pub hash: Hash,
    /// Unix time in ms of the block.
    pub timestamp_ms: u64,
}

/// Why a node stopped applying. It stays readable.
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
}

/// What the next block is built on.
pub(crate) struct Head {
    pub header: Header,
    pub hash: Hash,
    pub tree: Tree,
    pub history: History,
    /// In force for the next block.
    pub validators: Arc<ValidatorSet>,
    pub last_batch: Hash,
}

/// What readers read.
enum Readers {
    /// The store itself.
    Live(Arc<dyn KvView>),
    /// The store as it was before an image began to replace it.
    Pinned(Arc<dyn KvView>),
}

pub struct Chain {
    kv: Arc<dyn Kv>,
    readers: RwLock<Readers>,
    genesis: Genesis,
    chain_id: Hash,
    head: RwLock<Head>,
    newest: watch::Sender<HeadInfo>,
    certified: watch::Sender<u64>,
    membership: watch::Sender<Membership>,
    halted: OnceLock<Halt>,
}

impl Chain {
    pub(crate) fn new(kv: Arc<dyn Kv>, genesis: Genesis, head: Head) -> Result<Self, StateError> {
        let certified = tables::newest_certified(&*kv, 0)?.unwrap_or(0);
        let info = info(&head);
        let membership = Membership::at_start(
            named_nodes(&View::new(kv.clone()))?,
            certifying_set(&*kv, certified)?,
            set_before_last_change(&*kv)?.as_ref(),
        );
        Ok(Self {
            membership: watch::Sender::new(membership),
            readers: RwLock::new(Readers::Live(kv.clone())),
            kv,
            chain_id: genesis.chain_id(),
            genesis,
            head: RwLock::new(head),
            newest: watch::Sender::new(info),
            certified: watch::Sender::new(certified),
            halted: OnceLock::new(),
        })
    }

    pub(crate) fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// The store, for reading.
    pub fn store(&self) -> Arc<dyn KvView> {
        match &*self.readers() {
            Readers::Live(store) | Readers::Pinned(store) => store.clone(),
        }
    }

    /// The newest state, whatever is being written.
    pub(crate) fn newest_view(&self) -> View {
        View::new(self.store())
    }

    /// The state as it is now, unaffected by what is written later.
    pub(crate) fn lasting_view(&self) -> Result<View, StateError> {
        let view = match &*self.readers() {
            Readers::Live(_) => self.kv.view()?,
            Readers::Pinned(view) => view.clone(),
        };
        Ok(View::new(view))
    }

    fn readers(&self) -> RwLockReadGuard<'_, Readers> {
        self.readers
            .read()
            .expect("nobody panics while writing who reads what")
    }

    /// Readers see the store as it is now until [`replace`](Self::replace).
    pub(crate) fn pin_readers(&self) -> Result<(), StateError> {
        self.set_readers(Readers::Pinned(self.kv.view()?));
        Ok(())
    }

    fn set_readers(&self, readers: Readers) {
        *self
            .readers
            .write()
            .expect("nobody panics while writing who reads what") = readers;
    }

    /// Goes on with a chain that was installed in the store meanwhile.
    pub(crate) fn replace(&self, head: Head) -> Result<(), StateError> {
        let named = named_nodes(&View::new(self.kv.clone()))?;
        let certified = tables::newest_certified(&*self.kv, 0)?.unwrap_or(0);
        self.advance(|old| {
            *old = head;
            self.set_readers(Readers::Live(self.kv.clone()));
            Ok::<_, StateError>(())
        })?;
        self.raise_certified(certified);
        self.update_membership(Some(named))
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

    /// Takes over what the newest state names, if it changed, and looks up who must certify the
    /// first uncertified change.
    pub(crate) fn update_membership(&self, named: Option<NamedNodes>) -> Result<(), StateError> {
        let mut result = Ok(());
        self.membership.send_if_modified(|membership| {
            // Read under the lock, so that a certificate and a block that come together are seen
            // in one order.
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
    pub(crate) fn release_departed(&self, raft: &RaftMembers) {
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

    pub(crate) fn last_batch(&self) -> Hash {
        self.read_head().last_batch
    }

    pub(crate) fn read_head(&self) -> RwLockReadGuard<'_, Head> {
        self.head
            .read()
            .expect("nobody panics while writing the head")
    }

    /// Changes the head with `change`, which also writes it to the store, and tells who waits.
    /// Readers see state, tree and header together.
    pub(crate) fn advance<T, E>(
        &self,
        change: impl FnOnce(&mut Head) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut head = self
            .head
            .write()
            .expect("nobody panics while writing the head");
        let done = change(&mut head)?;
        let info = info(&head);
        drop(head);
        self.newest.send_if_modified(|known| {
            let changed = *known != info;
            *known = info;
            changed
        });
        Ok(done)
    }

    /// The set that certifies the header of `height`; beyond the head, the newest known.
    pub fn validators_at(&self, height: u64) -> Result<Arc<ValidatorSet>, StateError> {
        let head = self.read_head();
        if height > head.header.height {
            return Ok(head.validators.clone());
        }
        drop(head);
        let set = tables::validators_at(&*self.store(), height)?;
        Ok(Arc::new(set))
    }

    /// Keeps a certificate that was verified against this node's own header.
    pub(crate) fn certify(&self, certificate: &Certificate) -> Result<(), StateError> {
        // One that nobody may be able to make again, once those who signed it are gone.
        let durability = match self.lacks_certificate(certificate.height)? {
            true => Durability::Synced,
            false => Durability::Unsynced,
        };
        let mut batch = Batch::new();
        tables::put_certificate(&mut batch, certificate);
        self.kv.write(batch, durability)?;
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

    /// Those of the heights whose block changed the validators.
    pub(crate) fn changes_in(&self, heights: Range<u64>) -> Result<Vec<u64>, StateError> {
        let changes = tables::set_changes(&*self.store(), heights, SET_CHANGES_MAX)?;
        Ok(changes.into_iter().map(|(height, ..)| height).collect())
    }

    /// The first header that changes the validators and has no certificate of its own.
    pub(crate) fn first_uncertified_change(&self) -> Result<Option<u64>, StateError> {
        first_uncertified_change(&*self.store(), self.certified_height())
    }

    /// Whether a block changed the validators and its header has no certificate of its own yet.
    pub(crate) fn lacks_certificate(&self, height: u64) -> Result<bool, StateError> {
        let changed = !self.changes_in(height..height + 1)?.is_empty();
        Ok(changed && tables::certificate(&*self.store(), height)?.is_none())
    }

    /// Stops applying for good; the first reason stays.
    pub(crate) fn halt(&self, reason: Halt) {
        // A second reason adds nothing: the node has stopped.
        let _ = self.halted.set(reason);
    }

    pub fn halted(&self) -> Option<&Halt> {
        self.halted.get()
    }
}

fn info(head: &Head) -> HeadInfo {
    HeadInfo {
        height: head.header.height,
        hash: head.hash,
        timestamp_ms: head.header.timestamp_ms,
    }
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
    let changes = tables::set_changes(store, 1..u64::MAX, SET_CHANGES_MAX)?;
    changes
        .last()
        .map(|(height, ..)| tables::validators_at(store, *height))
        .transpose()
}

fn first_uncertified_change(store: &dyn KvView, certified: u64) -> Result<Option<u64>, StateError> {
    for (height, ..) in tables::set_changes(store, certified + 1..u64::MAX, SET_CHANGES_MAX)? {
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
