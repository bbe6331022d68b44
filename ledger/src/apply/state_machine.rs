//! The ledger as Raft's state machine: committed batches in, blocks out.
//!
//! One block is one atomic write: state, block, receipts, events, indexes and the marker of
//! consensus. It is unsynced, because the log entry it comes from is synced: after a crash the
//! entry is applied again, to the same block. There is no repair code; a restart is "apply what
//! comes after the marker".

#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{Committed, Fatal, Rejected, StateMachine};
use lamplighter_state::tree::{FetchedPages, LeafChanges, Tree};
use lamplighter_state::{Changes, StateError, View, tables};
use lamplighter_store::{Durability, WriteBatch};
use lamplighter_system::error_chain;
use lamplighter_types::codec::CodecError;
use lamplighter_types::limits::BLOCK_TIME_MS_MAX;
use lamplighter_types::{Hash, Header, SignedTransaction, UnverifiedTransaction};
use tokio::sync::watch;

use super::execution::{BlockOrigin, execute_block, named_after};
use super::snapshot::{self, Installation};
use super::snapshot_check::{ImageError, check};
use crate::alarms::{Alarms, NodeAlarm};
use crate::blocking::Blocking;
use crate::chain::{Chain, ExecutedBlock, Halt, HeadInfo, put_block};
use crate::clock_comparison::ClockComparison;
use crate::order::sequencer::Batch;
use crate::submit::mempool::{Mempool, PendingTransaction};
use crate::submit::resolver::TicketResolver;

pub(crate) struct LedgerStateMachine {
    pub chain: Arc<Chain>,
    pub mempool: Arc<Mempool>,
    pub resolver: TicketResolver,
    pub blocking: Blocking,
    pub alarms: Arc<Alarms>,
    pub clocks: Arc<ClockComparison>,
    pub installation: watch::Sender<Option<Installation>>,
}

/// The entry of the log that a block is made of.
struct Origin {
    /// Digest of the batch.
    batch: Hash,
    /// The time of the block.
    time_ms: u64,
    /// The position of consensus after the entry.
    marker: Vec<u8>,
}

/// Why a batch makes no block.
#[derive(Debug, thiserror::Error)]
enum Void {
    #[error("it is malformed")]
    Malformed(#[source] CodecError),
    #[error("it does not follow the last block's batch")]
    OutOfOrder,
    #[error("its block would be later than any can be")]
    AfterTime,
}

/// The time of the block of a batch: the leader's, and later than the block before; none if that
/// is later than any block can be.
fn block_time(before_ms: u64, batch_ms: u64) -> Option<u64> {
    let time_ms = before_ms.checked_add(1)?.max(batch_ms);
    (time_ms <= BLOCK_TIME_MS_MAX).then_some(time_ms)
}

/// Why the state machine stopped.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("the state failed")]
    State(#[from] StateError),
    #[error("this node halted")]
    Halted(#[source] Halt),
}

impl LedgerStateMachine {
    /// Stops this ledger: status and `/readyz` report the reason, and consensus stops the node.
    fn halt(
        &self,
        reason: impl FnOnce(String) -> Halt,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Fatal {
        self.chain.halt(reason(error_chain(&error)));
        Fatal::new(error)
    }

    /// Reads a batch that makes a block; none if it is void: malformed, not following the last one,
    /// or of a time after which no block can be. The same on every node.
    fn read_batch(&self, bytes: &[u8], log_index: u64) -> Option<(Batch, u64)> {
        let head = self.chain.head();
        let read = Batch::decode(bytes).map_err(Void::Malformed);
        let read = read.and_then(|batch| {
            if batch.parent != self.chain.last_batch() {
                return Err(Void::OutOfOrder);
            }
            let time_ms = block_time(head.timestamp_ms, batch.timestamp_ms);
            time_ms
                .map(|time_ms| (batch, time_ms))
                .ok_or(Void::AfterTime)
        });
        read.inspect_err(|void| {
            tracing::error!(log_index, error = void as &dyn Error, "a batch is void");
            let alarm = NodeAlarm::VoidBatch { log_index };
            let next = head.height.saturating_add(1);
            self.alarms.raise_until_certified(alarm, next);
        })
        .ok()
    }

    /// Applies one entry. A void batch makes no block.
    fn apply_entry(&self, entry: Committed) -> Result<Bytes, ApplyError> {
        if let Some(halt) = self.chain.halted() {
            return Err(ApplyError::Halted(halt));
        }
        let bytes = entry.batch.as_deref();
        let read = bytes.and_then(|bytes| {
            let (batch, time_ms) = self.read_batch(bytes, entry.log_index)?;
            Some((batch, time_ms, Hash::of(bytes)))
        });
        let Some((batch, time_ms, digest)) = read else {
            let mut writes = WriteBatch::new();
            tables::put_marker(&mut writes, &entry.marker);
            self.chain
                .kv()
                .write(writes, Durability::Unsynced)
                .map_err(StateError::from)?;
            return Ok(Bytes::new());
        };
        let origin = Origin {
            batch: digest,
            time_ms,
            marker: entry.marker,
        };
        let verified = self.verify(batch.transactions);
        let block = self.execute(&origin, verified)?;
        let height = block.header.height;
        let block = self.write(block, &origin.marker)?;
        self.resolver.resolve_block(&block)?;
        Ok(Bytes::copy_from_slice(&height.to_be_bytes()))
    }

    /// Verifies the transactions that this node has not verified on their way in. A leader is not
    /// trusted with signatures.
    fn verify(&self, transactions: Vec<SignedTransaction>) -> Vec<PendingTransaction> {
        let chain_id = self.chain.chain_id();
        let mut pending: Vec<Option<PendingTransaction>> = Vec::with_capacity(transactions.len());
        let mut unverified = Vec::new();
        for signed in transactions {
            let named = UnverifiedTransaction::new(signed, &chain_id);
            let same = self.mempool.get(&named.hash());
            let same = same.filter(|p| **p.envelope() == *named.envelope());
            if same.is_none() {
                unverified.push(named);
            }
            pending.push(same);
        }
        let mut verified = UnverifiedTransaction::verify_all(unverified).into_iter();
        let all = pending.into_iter().map(|pending| match pending {
            Some(pending) => Some(pending),
            None => match verified.next()? {
                Ok(transaction) => Some(Arc::new(transaction)),
                Err(error) => {
                    tracing::error!(%error, "the leader proposed a bad transaction: left out");
                    None
                }
            },
        });
        all.flatten().collect()
    }

    /// Executes the transactions and makes the block in memory.
    fn execute(
        &self,
        origin: &Origin,
        transactions: Vec<PendingTransaction>,
    ) -> Result<ExecutedBlock, StateError> {
        let head = self.chain.read_head();
        let origin = BlockOrigin {
            batch: origin.batch,
            position: Hash::of(&origin.marker),
            time_ms: origin.time_ms,
        };
        execute_block(self.chain.live_view(), &head, &origin, transactions)
    }

    /// Advances the tree, completes the header, and writes everything in one batch. If that fails,
    /// the head is what the store has: this node stays readable, and its proofs must hold.
    fn write(&self, mut block: ExecutedBlock, marker: &[u8]) -> Result<ExecutedBlock, StateError> {
        let named = named_after(self.chain.live_view(), &block.changes)?;
        let mut writes = WriteBatch::new();
        let before = self.chain.live_view();
        tables::put_device_terms(&mut writes, &**before.store(), &block.changes)?;
        let changes = LeafChanges::of(&block.changes);
        // Read before readers are excluded.
        let fetched = self.chain.read_head().tree.fetch(&changes)?;
        self.chain.advance(|head| {
            let history = head.history.clone();
            block.header.state_root = head.tree.update(&changes, fetched)?;
            let changed = named.as_ref().map(|named| &*named.validators);
            let put = put_block(&mut writes, head, &block, changed);
            tables::put_position(&mut writes, marker);
            tables::put_marker(&mut writes, marker);
            let write = || Ok(self.chain.kv().write(writes, Durability::Unsynced)?);
            let written: Result<(), StateError> = put.and_then(|()| write());
            match &written {
                Ok(()) => self.chain.records().update(&block.changes),
                Err(_) => self.chain.records().clear(),
            }
            // A write that failed may be stored nevertheless.
            if written.is_err() && !self.is_stored(&block.header) {
                head.history = history;
                let stored = self.chain.live_view();
                if let Err(error) = revert(&mut head.tree, &block.changes, &stored) {
                    tracing::error!(%error, "no proofs can be made any more");
                    head.tree.discard();
                }
                return written.map(|()| block);
            }
            head.hash = block.header.hash();
            head.header = block.header.clone();
            if let Some(named) = named {
                head.validators = named.validators.clone();
                self.chain.update_membership(Some(named))?;
            }
            written?;
            Ok(block)
        })
    }

    fn is_stored(&self, header: &Header) -> bool {
        let stored = tables::header(&*self.chain.store(), header.height);
        stored.is_ok_and(|stored| stored.as_ref() == Some(header))
    }

    /// Checks that an image is valid in itself and continues this node's chain.
    fn check_image(&self, dir: &Path) -> Result<Option<Vec<u8>>, ImageError> {
        let tree = self.chain.empty_tree();
        let (image, head) = check(&**self.chain.kv(), dir, self.chain.genesis(), tree)?;
        let HeadInfo { height, hash, .. } = self.chain.head();
        let in_image = tables::header_hash(&*image, height)?;
        if head.header.height < height || in_image != Some(hash) {
            return Err(ImageError::Contradiction { height });
        }
        Ok(tables::position(&*image)?)
    }
}

/// Takes the changes of a block that was not written out of the tree: what is stored counts.
fn revert(tree: &mut Tree, changes: &Changes, stored: &View) -> Result<(), StateError> {
    let mut before = Vec::with_capacity(changes.writes.len());
    for key in changes.writes.keys() {
        let value = stored.get_bytes(key)?;
        before.push((Hash::of(key), value.map(|value| Hash::of(&value))));
    }
    tree.update(&before.into_iter().collect(), FetchedPages::default())?;
    Ok(())
}

#[async_trait]
impl StateMachine for LedgerStateMachine {
    fn applied(&self) -> Result<Option<Vec<u8>>, Fatal> {
        tables::marker(&*self.chain.store()).map_err(Fatal::new)
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Fatal> {
        let apply = |entry| {
            let applied = self.apply_entry(entry);
            applied.map_err(|error| self.halt(Halt::Block, error))
        };
        entries.into_iter().map(apply).collect()
    }

    fn may_acknowledge(&self, batch: &Bytes) -> bool {
        // A malformed batch is void when it is applied; its time says nothing.
        Batch::time_of(batch).is_none_or(|time_ms| self.clocks.is_timely(time_ms))
    }

    fn is_committed(&self, ahead: u64) -> bool {
        self.chain.is_below_certificate(ahead)
    }

    fn on_early_batch(&self, leader: u64, batch: &Bytes, is_proposer: bool) {
        if let Some(time_ms) = Batch::time_of(batch) {
            self.clocks.record_early(leader, time_ms, is_proposer);
        }
    }

    fn may_follow(&self, leader: u64) -> bool {
        self.clocks.may_lead(leader)
    }

    fn build_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Fatal> {
        snapshot::build(&self.chain, dir).map_err(Fatal::new)
    }

    async fn seal_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        let sealed = snapshot::seal(&self.chain, self.blocking, dir);
        sealed.await.map_err(Fatal::new)
    }

    fn check_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Rejected> {
        self.check_image(dir).map_err(Rejected::new)
    }

    fn install_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        let installed = snapshot::install(&self.chain, dir, &self.installation);
        installed.map_err(|error| self.halt(Halt::Image, error))?;
        let resolved = self.resolver.resolve_all();
        resolved.map_err(|error| self.halt(Halt::Image, error))
    }
}
