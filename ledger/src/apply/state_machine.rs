//! The ledger as Raft's state machine: committed batches in, blocks out.
//!
//! One block is one atomic write: state, block, receipts, events, indexes and the marker of
//! consensus. It is unsynced, because the log entry it comes from is synced: after a crash the
//! entry is applied again, to the same block. There is no repair code; a restart is "apply what
//! comes after the marker".

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{Committed, Fatal, Rejected, StateMachine};
use lamplighter_contracts::BlockContext;
use lamplighter_contracts::execute;
use lamplighter_contracts::tables::Table;
use lamplighter_state::{Changes, Overlay, StateError, tables};
use lamplighter_store::{Durability, WriteBatch};
use lamplighter_system::error_chain;
use lamplighter_types::merkle::list;
use lamplighter_types::{HEADER_VERSION, Hash, Header, Outcome, Receipt, SignedTransaction, codec};
use tokio::sync::watch;

use super::snapshot::{self, Installation};
use super::snapshot_check::{ImageError, check};
use crate::blocking::Blocking;
use crate::chain::{Chain, ExecutedBlock, Halt, HeadInfo, named_nodes, put_block};
use crate::membership::NamedNodes;
use crate::order::sequencer::Batch;
use crate::submit::mempool::{Mempool, PendingTransaction};
use crate::submit::resolver::TicketResolver;

pub(crate) struct LedgerStateMachine {
    pub chain: Arc<Chain>,
    pub mempool: Arc<Mempool>,
    pub resolver: TicketResolver,
    pub blocking: Blocking,
    pub installation: watch::Sender<Option<Installation>>,
}

/// The entry of the log that a block is made of.
struct Origin {
    /// Digest of the batch.
    batch: Hash,
    /// The time in the batch.
    timestamp_ms: u64,
    /// The position of consensus after the entry.
    marker: Vec<u8>,
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

    /// Applies one entry. A void batch (malformed, or not following the last one) makes no block.
    fn apply_entry(&self, entry: Committed) -> Result<Bytes, ApplyError> {
        if let Some(halt) = self.chain.halted() {
            return Err(ApplyError::Halted(halt.clone()));
        }
        let batch = entry.batch.as_deref().and_then(|bytes| match Batch::decode(bytes) {
            Ok(batch) if batch.parent == self.chain.last_batch() => {
                Some((batch, Hash::of(bytes)))
            }
            Ok(_) => {
                tracing::warn!(log_index = entry.log_index, "a batch out of order is void");
                None
            }
            Err(error) => {
                tracing::error!(log_index = entry.log_index, %error, "a malformed batch is void");
                None
            }
        });
        let Some((batch, digest)) = batch else {
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
            timestamp_ms: batch.timestamp_ms,
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
            let same = self.mempool.get(&signed.hash(&chain_id));
            let same = same.filter(|p| **p.envelope() == signed);
            if same.is_none() {
                unverified.push(signed);
            }
            pending.push(same);
        }
        let mut verified = SignedTransaction::verify_all(unverified, &chain_id).into_iter();
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
        let context = BlockContext {
            chain_id: self.chain.chain_id(),
            height: head.header.height + 1,
            time_ms: origin.timestamp_ms.max(head.header.timestamp_ms + 1),
        };
        let mut overlay = Overlay::new(self.chain.live_view());
        let notifications = execute::begin_block(&mut overlay, &context)?;
        let (mut included, mut receipts, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for transaction in transactions {
            match execute::execute(&mut overlay, &context, &transaction)? {
                Ok(receipt) => {
                    receipts.push(Arc::new(receipt));
                    included.push(transaction);
                }
                Err(error) => refused.push((transaction.hash(), error)),
            }
        }
        if !notifications.is_empty() {
            receipts.push(Arc::new(Receipt {
                transaction: Hash::ZERO,
                outcome: Outcome::Succeeded,
                notifications,
            }));
        }
        let changes = overlay.into_changes();
        let header = Header {
            version: HEADER_VERSION,
            chain_id: context.chain_id,
            height: context.height,
            parent: head.hash,
            timestamp_ms: context.time_ms,
            tx_root: list::block_root(included.iter().map(|t| codec::encode(&**t.envelope()))),
            receipt_root: list::block_root(receipts.iter().map(|r| codec::encode(&**r))),
            event_root: list::block_root(changes.events.iter().map(codec::encode)),
            // Set when the tree has the changes.
            state_root: Hash::ZERO,
            history_root: head.history.root(),
            validators_hash: head.validators.hash(),
            batch: origin.batch,
            position: Hash::of(&origin.marker),
        };
        Ok(ExecutedBlock {
            header,
            transactions: included,
            receipts,
            refused,
            changes,
        })
    }

    /// Advances the tree, completes the header, and writes everything in one batch.
    fn write(&self, mut block: ExecutedBlock, marker: &[u8]) -> Result<ExecutedBlock, StateError> {
        self.chain.advance(|head| {
            block.header.state_root = head.tree.apply(&block.changes);
            let named = self.named_after(&block.changes)?;
            let mut writes = WriteBatch::new();
            let changed = named.as_ref().map(|named| &*named.validators);
            put_block(&mut writes, head, &block, changed);
            tables::put_position(&mut writes, marker);
            tables::put_marker(&mut writes, marker);
            self.chain.kv().write(writes, Durability::Unsynced)?;
            head.hash = block.header.hash();
            head.header = block.header.clone();
            if let Some(named) = named {
                head.validators = named.validators.clone();
                self.chain.update_membership(Some(named))?;
            }
            Ok(block)
        })
    }

    /// The nodes that the state names after these changes, if they change them.
    fn named_after(&self, changes: &Changes) -> Result<Option<NamedNodes>, StateError> {
        if !changes.writes.keys().any(|key| names_nodes(key)) {
            return Ok(None);
        }
        let overlay = Overlay::with_changes(self.chain.live_view(), changes.clone());
        named_nodes(&overlay).map(Some)
    }

    /// Checks that an image is valid in itself and continues this node's chain.
    fn check_image(&self, dir: &Path) -> Result<Option<Vec<u8>>, ImageError> {
        let (image, head) = check(&**self.chain.kv(), dir, self.chain.genesis())?;
        let HeadInfo { height, hash, .. } = self.chain.head();
        let in_image = tables::header_hash(&*image, height)?;
        if head.header.height < height || in_image != Some(hash) {
            return Err(ImageError::Contradiction { height });
        }
        Ok(tables::position(&*image)?)
    }
}

/// Returns whether a state key is of a table that names nodes.
fn names_nodes(key: &[u8]) -> bool {
    let table = key.first().copied();
    [Table::ValidatorSet, Table::Observer]
        .iter()
        .any(|t| table == Some(*t as u8))
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
