//! The ledger as consensus sees it: committed batches in, blocks out.
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
use lamplighter_contracts::admission::AdmissionError;
use lamplighter_contracts::execute;
use lamplighter_contracts::tables::Table;
use lamplighter_state::{Changes, Overlay, StateError, tables};
use lamplighter_store::{Batch as Writes, Durability};
use lamplighter_system::error_chain;
use lamplighter_types::merkle::list;
use lamplighter_types::proof::VALIDATOR_SET_KEY;
use lamplighter_types::{
    HEADER_VERSION, Hash, Header, Outcome, Receipt, SignedTransaction, ValidatorSet, codec,
};
use tokio::sync::watch;

use crate::batch::Batch;
use crate::blocking::Blocking;
use crate::chain::{Chain, Halt, Head, named_nodes};
use crate::membership::NamedNodes;
use crate::message::batch_digest;
use crate::pool::{Pending, Pool};
use crate::settle;
use crate::snapshot::{self, ImageError, Installation};
use crate::ticket::{Commitment, Verdict};

pub(crate) struct Machine {
    pub chain: Arc<Chain>,
    pub pool: Arc<Pool>,
    pub blocking: Blocking,
    pub installation: watch::Sender<Option<Installation>>,
}

/// Why the machine stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("the state failed")]
    State(#[from] StateError),
    #[error("this node halted")]
    Halted(#[source] Halt),
}

/// A block that was executed and not yet written.
pub(crate) struct Executed {
    pub header: Header,
    pub transactions: Vec<Pending>,
    pub receipts: Vec<Arc<Receipt>>,
    pub refused: Vec<(Hash, AdmissionError)>,
    pub changes: Changes,
}

impl Machine {
    /// Applies one entry. A void batch (malformed, or not following the last one) makes no block.
    fn apply_entry(&self, entry: Committed) -> Result<Bytes, MachineError> {
        if let Some(halt) = self.chain.halted() {
            return Err(MachineError::Halted(halt.clone()));
        }
        let batch = entry.batch.as_deref().and_then(|bytes| match Batch::decode(bytes) {
            Ok(batch) if batch.parent == self.chain.last_batch() => {
                Some((batch, batch_digest(bytes)))
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
            let mut writes = Writes::new();
            tables::put_marker(&mut writes, &entry.marker);
            self.chain
                .kv()
                .write(writes, Durability::Unsynced)
                .map_err(StateError::from)?;
            return Ok(Bytes::new());
        };
        let verified = self.verify(batch.transactions);
        let block = self.execute(batch.timestamp_ms, verified)?;
        let height = block.header.height;
        let block = self.write(block, digest, &entry.marker)?;
        self.tell(&block)?;
        Ok(Bytes::copy_from_slice(&height.to_be_bytes()))
    }

    /// Verifies what this node has not verified on the way in. A leader is not trusted with
    /// signatures.
    fn verify(&self, transactions: Vec<SignedTransaction>) -> Vec<Pending> {
        let chain_id = self.chain.chain_id();
        let mut known: Vec<Option<Pending>> = Vec::with_capacity(transactions.len());
        let mut unknown = Vec::new();
        for signed in transactions {
            let pooled = self.pool.verified(&signed.hash(&chain_id));
            match pooled.filter(|p| **p.envelope() == signed) {
                Some(pending) => known.push(Some(pending)),
                None => {
                    known.push(None);
                    unknown.push(signed);
                }
            }
        }
        let mut verified = SignedTransaction::verify_all(unknown, &chain_id).into_iter();
        let all = known.into_iter().map(|pooled| match pooled {
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

    /// Makes the block in memory.
    fn execute(
        &self,
        timestamp_ms: u64,
        transactions: Vec<Pending>,
    ) -> Result<Executed, StateError> {
        let head = self.chain.read_head();
        let context = BlockContext {
            chain_id: self.chain.chain_id(),
            height: head.header.height + 1,
            time_ms: timestamp_ms.max(head.header.timestamp_ms + 1),
        };
        let mut overlay = Overlay::new(self.chain.newest_view());
        let by_block = execute::begin_block(&mut overlay, &context)?;
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
        if !by_block.is_empty() {
            receipts.push(Arc::new(Receipt {
                transaction: Hash::ZERO,
                outcome: Outcome::Succeeded,
                notifications: by_block,
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
            // Known when the tree has taken the changes.
            state_root: Hash::ZERO,
            history_root: head.history.root(),
            validators_hash: head.validators.hash(),
        };
        Ok(Executed {
            header,
            transactions: included,
            receipts,
            refused,
            changes,
        })
    }

    /// Advances the tree, completes the header, and writes everything in one batch.
    fn write(
        &self,
        mut block: Executed,
        batch: Hash,
        marker: &[u8],
    ) -> Result<Executed, StateError> {
        self.chain.advance(|head| {
            block.header.state_root = head.tree.apply(&block.changes);
            let named = self.named_after(&block.changes)?;
            let mut writes = Writes::new();
            let changed = named.as_ref().map(|named| &*named.validators);
            put_block(&mut writes, head, &block, changed);
            tables::put_last_batch(&mut writes, &batch);
            tables::put_marker(&mut writes, marker);
            self.chain.kv().write(writes, Durability::Unsynced)?;
            head.last_batch = batch;
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
        let overlay = Overlay::with_changes(self.chain.newest_view(), changes.clone());
        named_nodes(&overlay).map(Some)
    }

    /// An image must hold in itself, and continue what this node has.
    fn check_image(&self, dir: &Path) -> Result<Option<Vec<u8>>, ImageError> {
        let (image, head) = snapshot::check(&**self.chain.kv(), dir, self.chain.genesis())?;
        let own = self.chain.head();
        let at_own = tables::header_hash(&*image, own.height)?;
        if head.header.height < own.height || at_own != Some(own.hash) {
            return Err(ImageError::Contradiction { height: own.height });
        }
        Ok(tables::marker(&*image)?)
    }

    /// Tells those who wait what became of their transactions.
    fn tell(&self, block: &Executed) -> Result<(), StateError> {
        let height = block.header.height;
        for ((transaction, receipt), index) in
            block.transactions.iter().zip(&block.receipts).zip(0u32..)
        {
            let commitment = Commitment {
                height,
                index,
                receipt: receipt.clone(),
            };
            self.pool
                .resolve(&transaction.hash(), &Verdict::Committed(commitment));
        }
        for (hash, error) in &block.refused {
            // Left out because an earlier block has it: its receipt is the answer.
            let verdict = match commitment(&self.chain, hash)? {
                Some(commitment) => Verdict::Committed(commitment),
                None => Verdict::Refused(error.clone()),
            };
            self.pool.resolve(hash, &verdict);
        }
        settle::after_block(&self.chain, &self.pool, block)?;
        self.pool.expire(block.header.timestamp_ms);
        Ok(())
    }
}

/// Adds a block to a write: its records, the header's place in the history, and the validators that
/// follow.
pub(crate) fn put_block(
    writes: &mut Writes,
    head: &mut Head,
    block: &Executed,
    validators: Option<&ValidatorSet>,
) {
    let Executed {
        header,
        transactions,
        receipts,
        changes,
        refused: _,
    } = block;
    tables::put_changes(writes, changes);
    tables::put_block(writes, header, transactions, receipts, &changes.events);
    tables::put_history(writes, &head.history.append(&header.hash()));
    if let Some(validators) = validators {
        let path = head.tree.prove(VALIDATOR_SET_KEY);
        tables::put_validators(writes, header.height, validators, &path);
    }
}

/// Whether a state key is of a table that names nodes.
fn names_nodes(key: &[u8]) -> bool {
    let table = key.first().copied();
    [Table::ValidatorSet, Table::Observer]
        .iter()
        .any(|t| table == Some(*t as u8))
}

/// The place and receipt of a transaction that is in the chain.
pub(crate) fn commitment(chain: &Chain, hash: &Hash) -> Result<Option<Commitment>, StateError> {
    let Some((height, index)) = tables::transaction_place(&*chain.store(), hash)? else {
        return Ok(None);
    };
    let receipt = tables::receipt(&*chain.store(), height, index)?;
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

#[async_trait]
impl StateMachine for Machine {
    fn applied(&self) -> Result<Option<Vec<u8>>, Fatal> {
        tables::marker(&*self.chain.store()).map_err(Fatal::new)
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Fatal> {
        let apply = |entry| {
            self.apply_entry(entry).map_err(|error| {
                // Status and `/readyz` report it; consensus stops the node.
                self.chain.halt(Halt::Block(error_chain(&error)));
                Fatal::new(error)
            })
        };
        entries.into_iter().map(apply).collect()
    }

    fn build_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Fatal> {
        snapshot::build(&self.chain, dir)
            .map(Some)
            .map_err(Fatal::new)
    }

    async fn seal_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        let sealed = snapshot::seal(&self.chain, self.blocking, dir);
        sealed.await.map_err(Fatal::new)
    }

    fn check_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Rejected> {
        self.check_image(dir).map_err(Rejected::new)
    }

    fn install_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        snapshot::install(&self.chain, dir, &self.installation).map_err(Fatal::new)?;
        settle::all(&self.chain, &self.pool).map_err(Fatal::new)
    }
}
