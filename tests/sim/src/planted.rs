//! Planted bugs, which a run has to find: wrappers of a node's disk and of its state machine that
//! break one promise of the trait each. The product knows nothing of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{Committed, Electorate, Fatal, Rejected, StateMachine};
use lamplighter_contracts::tables::Table;
use lamplighter_ledger::{AnnouncedValidators, Handle, PeerGossip};
use lamplighter_state::StateError;
use lamplighter_store::{
    Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Op, Scan, StoreError, WriteBatch,
};

use crate::lies;

/// A bug that the run has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// The disk acknowledges a vote without keeping it.
    VoteNotPersisted,
    /// The disk acknowledges the note of what is about to be attested before it has synced it.
    AttestationBeforeDisk,
    /// Sequence windows are left out of the snapshot image.
    WindowsNotInSnapshot,
    /// A height that a peer reports without a proof is believed.
    UnverifiedHeight,
    /// Every signature under a vote is accepted, so nobody has to win an election.
    UnprovenLeader,
    /// A batch that is void is passed over without a word.
    SilentVoid,
}

/// Key of the vote in [`Cf::Meta`], as in consensus.
const VOTE_KEY: &[u8] = b"raft/vote";
/// Beginning of the keys of attested headers in [`Cf::Meta`], as in the tables of the state.
const ATTESTED_PREFIX: &[u8] = b"attested";

/// The disk, with the planted bug if it is one of a disk.
pub fn disk(planted: Option<Planted>, disk: Arc<dyn Kv>) -> Arc<dyn Kv> {
    match planted {
        Some(bug @ (Planted::VoteNotPersisted | Planted::AttestationBeforeDisk)) => {
            Arc::new(BrokenDisk { disk, bug })
        }
        _ => disk,
    }
}

/// The state machine, with the planted bug if it is one of a state machine.
pub fn state_machine(
    planted: Option<Planted>,
    machine: Arc<dyn StateMachine>,
) -> Arc<dyn StateMachine> {
    match planted {
        Some(bug @ (Planted::WindowsNotInSnapshot | Planted::SilentVoid)) => {
            Arc::new(BrokenMachine { machine, bug })
        }
        _ => machine,
    }
}

/// The electorate, with the planted bug if it is one of an electorate.
pub fn electorate(
    planted: Option<Planted>,
    electorate: Arc<dyn Electorate>,
) -> Arc<dyn Electorate> {
    match planted {
        Some(Planted::UnprovenLeader) => Arc::new(CredulousElectorate(electorate)),
        _ => electorate,
    }
}

/// An electorate that takes every signature for a good one.
struct CredulousElectorate(Arc<dyn Electorate>);

impl Electorate for CredulousElectorate {
    fn chain_id(&self) -> [u8; 32] {
        self.0.chain_id()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }

    fn verify(&self, _: u64, _: &[u8], _: &[u8; 64]) -> bool {
        true
    }

    fn has_key(&self, node: u64) -> bool {
        self.0.has_key(node)
    }

    fn electors(&self) -> Vec<BTreeSet<u64>> {
        self.0.electors()
    }

    fn explains(&self, voters: &BTreeSet<u64>) -> Option<u64> {
        self.0.explains(voters)
    }

    fn names(&self, node: u64) -> bool {
        self.0.names(node)
    }

    fn is_excluded(&self, node: u64) -> bool {
        self.0.is_excluded(node)
    }
}

/// Hands a broadcast to a node, with the planted bug if it is one of broadcasts.
pub async fn handle_gossip(
    planted: Option<Planted>,
    handle: &Handle,
    gossip: PeerGossip,
) -> Result<(), StateError> {
    if planted == Some(Planted::UnverifiedHeight)
        && let Some(certified) = &gossip.certified
    {
        let named = handle.watch_membership().borrow().named.clone();
        handle.add_bootstrap_validators(AnnouncedValidators {
            height: certified.header.height,
            validators: (*named.validators).clone(),
        });
    }
    handle.handle_gossip(gossip).await
}

struct BrokenDisk {
    disk: Arc<dyn Kv>,
    bug: Planted,
}

fn puts_meta(batch: &WriteBatch, prefix: &[u8]) -> bool {
    batch
        .ops()
        .iter()
        .any(|op| matches!(op, Op::Put { cf: Cf::Meta, key, .. } if key.starts_with(prefix)))
}

impl KvView for BrokenDisk {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.disk.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        self.disk.scan(cf, range, direction)
    }
}

impl Kv for BrokenDisk {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        match self.bug {
            Planted::VoteNotPersisted if puts_meta(&batch, VOTE_KEY) => Ok(()),
            Planted::AttestationBeforeDisk if puts_meta(&batch, ATTESTED_PREFIX) => {
                self.disk.write(batch, Durability::Unsynced)
            }
            _ => self.disk.write(batch, durability),
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.disk.sync()
    }

    fn view(&self) -> Result<Arc<dyn KvView>, StoreError> {
        self.disk.view()
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.disk.checkpoint(dir)
    }

    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError> {
        self.disk.read_checkpoint(dir)
    }
}

/// A state machine whose images lack the replay windows of the keys, or that hides void batches
/// from the ledger.
struct BrokenMachine {
    machine: Arc<dyn StateMachine>,
    bug: Planted,
}

fn remove_windows(dir: &Path) -> Result<(), StoreError> {
    let image = MemoryKv::open_checkpoint(dir)?;
    let mut batch = WriteBatch::new();
    let windows = vec![Table::ReplayWindow as u8];
    batch.delete_range(Cf::State, KeyRange::prefix(windows));
    image.write(batch, Durability::Synced)?;
    fs::remove_dir_all(dir).map_err(StoreError::io("remove the whole image", dir))?;
    image.checkpoint(dir)
}

#[async_trait]
impl StateMachine for BrokenMachine {
    fn applied(&self) -> Result<Option<Vec<u8>>, Fatal> {
        self.machine.applied()
    }

    fn apply(&self, mut entries: Vec<Committed>) -> Result<Vec<Bytes>, Fatal> {
        if self.bug == Planted::SilentVoid {
            let is_void = |batch: &Bytes| !lies::is_batch(batch);
            for entry in &mut entries {
                entry.batch.take_if(|batch| is_void(batch));
            }
        }
        self.machine.apply(entries)
    }

    fn may_acknowledge(&self, batch: &Bytes) -> bool {
        self.machine.may_acknowledge(batch)
    }

    fn is_committed(&self, ahead: u64) -> bool {
        self.machine.is_committed(ahead)
    }

    fn on_early_batch(&self, leader: u64, batch: &Bytes, is_proposer: bool) {
        self.machine.on_early_batch(leader, batch, is_proposer);
    }

    fn may_follow(&self, leader: u64) -> bool {
        self.machine.may_follow(leader)
    }

    fn build_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Fatal> {
        let marker = self.machine.build_snapshot(dir)?;
        if self.bug == Planted::WindowsNotInSnapshot {
            remove_windows(dir).map_err(Fatal::new)?;
        }
        Ok(marker)
    }

    async fn seal_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        self.machine.seal_snapshot(dir).await
    }

    fn check_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Rejected> {
        self.machine.check_snapshot(dir)
    }

    fn install_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        self.machine.install_snapshot(dir)
    }
}
