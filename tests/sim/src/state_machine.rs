//! The ledger's state machine with checks of its invariants.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{Committed, Fatal, Rejected, StateMachine};
use lamplighter_ledger::{Handle, ImageError};
use lamplighter_state::tree::Tree;
use lamplighter_store::KvView;
use lamplighter_types::Hash;

use crate::oracle::{Check, Violation, violation};
use crate::raft_messages::{self, Leader, Place};
use crate::world::World;

/// Blocks after which the state's root is computed again, per mille.
const RECOMPUTED: u64 = 30;

/// The state machine of one life of a node, checked.
pub struct CheckedStateMachine {
    pub inner: Arc<dyn StateMachine>,
    pub handle: Handle,
    pub store: Arc<dyn KvView>,
    pub world: Arc<World>,
    pub node: u64,
    pub life: u32,
    /// The last index that this life applied.
    pub applied: Mutex<Option<u64>>,
}

impl CheckedStateMachine {
    fn lives(&self) -> bool {
        self.world.lives(self.node, self.life) && !self.world.liars.is_liar(self.node)
    }

    fn before(&self, entry: &Committed) -> Result<Place, Violation> {
        let node = self.node;
        let Some(place) = raft_messages::log_id(&entry.marker).filter(|p| p.2 == entry.log_index)
        else {
            return violation(
                "an entry carries its own marker",
                format!("node {node}, entry {}", entry.log_index),
            );
        };
        let last = self
            .applied
            .lock()
            .expect("a panic ends the run")
            .replace(place.2);
        if last.is_some_and(|last| last + 1 != place.2) {
            return violation(
                "entries are applied one after the other",
                format!("node {node} applies {} after {last:?}", place.2),
            );
        }
        if !self.world.holds(node, place) {
            return violation(
                "a node applies what is on its disk",
                format!("node {node} applies {place:?}"),
            );
        }
        let digest = entry.batch.as_ref().map_or(Hash::ZERO, |b| Hash::of(b));
        let first = self.world.oracle().commit(node, place, digest)?;
        if first && !self.world.liars.is_liar(place.1) {
            self.world.check_majority(place)?;
        }
        Ok(place)
    }

    /// Checks the blocks that came of an entry, or of several.
    fn after(&self, before: u64, ordered_by: Option<Leader>) -> Check {
        let head = self.handle.head().height;
        for height in before + 1..=head {
            self.block(height, ordered_by)?;
        }
        if head > before && self.world.rng().chance(RECOMPUTED) {
            check_root(self.node, &self.handle, &*self.store)?;
        }
        Ok(())
    }

    fn block(&self, height: u64, ordered_by: Option<Leader>) -> Check {
        let block = match self.handle.block(height) {
            Ok(Some(block)) => block,
            other => return violation("an applied block is there", format!("{height}: {other:?}")),
        };
        let hash = block.header.hash();
        self.world.log_event(format!(
            "node {}.{} has block {height} {} with {}",
            self.node,
            self.life,
            short(&hash),
            block.transactions.len()
        ));
        let new = !self.world.oracle().knows_header(height);
        self.world
            .oracle()
            .ordered_header(self.node, &block.header, ordered_by)?;
        if !new || !self.world.oracle().is_honest_block(&hash) {
            return Ok(());
        }
        self.world.count("blocks");
        let chain_id = self.handle.chain_id();
        let hashes: Vec<Hash> = block
            .transactions
            .iter()
            .map(|signed| signed.hash(&chain_id))
            .collect();
        self.world.oracle().block(height, &hashes)
    }

    /// Applies one entry after the other, so that it is known which leader ordered which block.
    fn apply_singly(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Fatal> {
        let mut done = Vec::new();
        for entry in entries {
            let (before, parent) = (self.handle.head().height, self.handle.head().hash);
            let (place, digest) = (
                self.before(&entry),
                entry.batch.as_ref().map(|b| Hash::of(b)),
            );
            done.extend(self.inner.apply(vec![entry])?);
            if digest.is_some() && self.handle.head().height == before {
                self.world.count("void batches");
                let certified = self.handle.certified_height();
                self.world
                    .measures
                    .record_void(self.node, self.life, certified);
            }
            let checked = place.and_then(|place| {
                let batch = digest.unwrap_or(Hash::ZERO);
                let leader = self.world.oracle().responsible(place, batch);
                self.after(before, Some(leader))?;
                let made = (self.handle.head().height > before).then(|| self.handle.head().hash);
                self.world
                    .oracle()
                    .block_of(self.node, place, digest, parent, made)
            });
            self.world.check(checked);
        }
        Ok(done)
    }

    fn installed(&self) -> Check {
        self.applied.lock().expect("a panic ends the run").take();
        if !self.lives() {
            return Ok(());
        }
        let height = self.handle.head().height;
        self.world.log_event(format!(
            "node {}.{} installed a snapshot of height {height}",
            self.node, self.life
        ));
        self.world.count("snapshots installed");
        // The block may be one of a lying leader, which counts when it is certified.
        if !self.world.liars.exist() && !self.world.oracle().knows_header(height) {
            return violation(
                "a snapshot is of committed blocks",
                format!("height {height}"),
            );
        }
        if let Ok(Some(header)) = self.handle.header(height) {
            self.world.oracle().header(self.node, &header)?;
        }
        check_root(self.node, &self.handle, &*self.store)
    }
}

pub fn short(hash: &Hash) -> String {
    hash.to_string()[..8].to_owned()
}

/// Checks a rejection: every image comes from an honest node, so only one that is older than this
/// node's state may be rejected.
fn rejected(node: u64, error: &Rejected) -> Check {
    match error.0.downcast_ref::<ImageError>() {
        Some(ImageError::Contradiction { .. }) => Ok(()),
        _ => violation(
            "the image of an honest node is accepted",
            format!("node {node}: {error:?}"),
        ),
    }
}

/// Checks that the root in the head's header is that of the stored state.
pub fn check_root(node: u64, handle: &Handle, store: &dyn KvView) -> Check {
    let height = handle.head().height;
    let header = match handle.header(height) {
        Ok(Some(header)) => header,
        other => return violation("the head has a header", format!("{other:?}")),
    };
    match Tree::new().load(store) {
        Ok(tree) if tree.root() == header.state_root => Ok(()),
        other => violation(
            "the state root is that of the stored state",
            format!("node {node} at {height}: {:?}", other.map(|t| t.root())),
        ),
    }
}

#[async_trait]
impl StateMachine for CheckedStateMachine {
    fn applied(&self) -> Result<Option<Vec<u8>>, Fatal> {
        self.inner.applied()
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Fatal> {
        if !self.lives() {
            return self.inner.apply(entries);
        }
        if self.world.liars.exist() {
            return self.apply_singly(entries);
        }
        for entry in &entries {
            self.world.check(self.before(entry).map(drop));
        }
        let before = self.handle.head().height;
        let done = self.inner.apply(entries)?;
        self.world.check(self.after(before, None));
        Ok(done)
    }

    fn may_acknowledge(&self, batch: &Bytes) -> bool {
        self.inner.may_acknowledge(batch)
    }

    fn is_committed(&self, ahead: u64) -> bool {
        self.inner.is_committed(ahead)
    }

    fn on_early_batch(&self, leader: u64, batch: &Bytes, is_proposer: bool) {
        self.inner.on_early_batch(leader, batch, is_proposer);
    }

    fn may_follow(&self, leader: u64) -> bool {
        self.inner.may_follow(leader)
    }

    fn build_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Fatal> {
        let built = self.inner.build_snapshot(dir);
        if self.lives() {
            let at = built.as_ref().ok().cloned().flatten();
            let at = at.and_then(|marker| raft_messages::log_id(&marker));
            self.world
                .log_event(format!("node {} builds a snapshot of {at:?}", self.node));
            self.world.count("snapshots built");
        }
        built
    }

    async fn seal_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        self.inner.seal_snapshot(dir).await
    }

    fn check_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Rejected> {
        let checked = self.inner.check_snapshot(dir);
        if let Err(error) = &checked
            && self.lives()
            && !self.world.liars.exist()
        {
            self.world.check(rejected(self.node, error));
        }
        checked
    }

    fn install_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        self.world.endanger(self.node, self.life);
        self.inner.install_snapshot(dir)?;
        self.world.check(self.installed());
        Ok(())
    }
}
