//! The audit of a chain: its blocks are executed again from the genesis file up, by the contracts
//! themselves in a store of its own, and everything that a header says is compared with what comes
//! out.
//!
//! Two fields of a header can't be computed: the digest of the batch, since transactions that were
//! left out of the block are not kept, and that of the position in the log of consensus. They are
//! taken as they stand. The validators have signed them with the rest.
//!
//! A block is written when it was compared, so an audit that was ended goes on above its last
//! block. Kept are the state, the headers, the validators and the certificates.

mod difference;

use std::path::Path;
use std::sync::Arc;

use lamplighter_state::tables::BlockLists;
use lamplighter_state::tree::{LeafChanges, Tree};
use lamplighter_state::{RecordCache, StateError, View, tables};
use lamplighter_store::{Durability, Kv, WriteBatch};
use lamplighter_types::limits::BLOCK_TIME_MS_MAX;
use lamplighter_types::wire::ArchivedBlock;
use lamplighter_types::{
    Certificate, Genesis, Hash, Header, PublicKey, Transaction, TransactionError,
    UnverifiedTransaction, ValidatorSet, Verified,
};

pub use self::difference::{Difference, Field};
use self::difference::{compare_headers, compare_receipts};
use crate::apply::execution::{BlockOrigin, execute_block, named_after};
use crate::apply::snapshot_check::load_head;
use crate::chain::{ExecutedBlock, Head, named_nodes, put_block};
use crate::config::TREE_KEYS_IN_MEMORY;
use crate::start::{OpenError, create_genesis_block};

/// Memory for records of the state: an audit has no other work, and meets the whole fleet again and
/// again.
const RECORD_CACHE_BYTES: usize = 64 << 20;

/// Whether an audit verifies the signatures of transactions. Those of certificates it always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    Verified,
    LeftOut,
}

/// A block with its transactions decoded, and verified unless that is left out.
#[derive(Debug)]
pub struct PreparedBlock {
    header: Header,
    transactions: Vec<Result<Verified<Transaction>, TransactionError>>,
    receipts: Vec<Vec<u8>>,
    certificate: Option<Certificate>,
}

/// Prepares blocks: the part of the work that needs no block below, for another thread. The
/// signatures of all of them are verified in batches together.
pub fn prepare(
    blocks: Vec<ArchivedBlock>,
    chain_id: &Hash,
    signatures: Signatures,
) -> Vec<PreparedBlock> {
    let (mut all, mut rest) = (Vec::new(), Vec::new());
    for block in blocks {
        let ArchivedBlock {
            header,
            transactions,
            receipts,
            certificate,
        } = block;
        rest.push((header, transactions.len(), receipts, certificate));
        let transactions = transactions.into_iter();
        all.extend(transactions.map(|signed| UnverifiedTransaction::new(signed, chain_id)));
    }
    let decoded: Vec<_> = match signatures {
        Signatures::Verified => UnverifiedTransaction::verify_all(all),
        Signatures::LeftOut => {
            let all = all.into_iter();
            all.map(UnverifiedTransaction::without_signature_check)
                .collect()
        }
    };
    let mut decoded = decoded.into_iter();
    let prepared = rest.into_iter();
    let prepared = prepared.map(|(header, count, receipts, certificate)| PreparedBlock {
        header,
        transactions: decoded.by_ref().take(count).collect(),
        receipts,
        certificate,
    });
    prepared.collect()
}

/// Why an audit ended.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the chain is not what its blocks make of it")]
    Difference(#[from] Difference),
    #[error("the audit's store failed, or this program can't execute the block")]
    State(#[from] StateError),
}

/// How far an audit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditProgress {
    /// Height of the last block that was compared.
    pub height: u64,
    /// Unix time in ms of that block.
    pub time_ms: u64,
    /// Height of the last certificate: it covers every block up to it.
    pub certified: u64,
    /// Since the audit was opened: transactions executed, certificates checked, and changes of the
    /// validators followed.
    pub transactions: u64,
    pub certificates: u64,
    pub set_changes: u64,
}

/// What an audit keeps of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// What the next blocks need.
    State,
    /// All that a node has: the store becomes that of a node.
    Everything,
}

/// An audit. After an error it takes no more blocks.
pub struct Auditor {
    kv: Arc<dyn Kv>,
    records: Arc<RecordCache>,
    head: Head,
    /// The height of a change of the validators that has no certificate.
    open_change: Option<u64>,
    keeps: Keeps,
    progress: AuditProgress,
}

impl Auditor {
    /// Begins an audit in an empty store, or goes on with the one in it. `dir` is for the file of
    /// the state tree, which has no name.
    ///
    /// # Errors
    /// A genesis file that is not usable, the audit of another chain, or damaged data.
    pub fn open(
        kv: Arc<dyn Kv>,
        genesis: &Genesis,
        dir: &Path,
        keeps: Keeps,
    ) -> Result<Self, OpenError> {
        genesis.check()?;
        let tree = Tree::on_disk(dir, TREE_KEYS_IN_MEMORY);
        let head = match tables::head_height(&*kv)? {
            Some(_) => load_head(kv.clone(), &genesis.chain_id(), tree)?,
            None => create_genesis_block(&kv, genesis, tree)?,
        };
        let certified = tables::newest_certified(&*kv, 0)?.unwrap_or(0);
        let mut open_change = None;
        for change in tables::set_changes(&*kv, certified..u64::MAX)? {
            let (height, ..) = change?;
            if tables::certificate(&*kv, height)?.is_none() {
                open_change = Some(height);
                break;
            }
        }
        Ok(Self {
            records: Arc::new(RecordCache::new(kv.clone(), RECORD_CACHE_BYTES)),
            kv,
            open_change,
            keeps,
            progress: AuditProgress {
                height: head.header.height,
                time_ms: head.header.timestamp_ms,
                certified,
                ..AuditProgress::default()
            },
            head,
        })
    }

    pub fn progress(&self) -> AuditProgress {
        self.progress
    }

    /// The header of the last block that was compared.
    pub fn header(&self) -> &Header {
        &self.head.header
    }

    /// Executes the next block and compares everything.
    ///
    /// # Errors
    /// The first difference; the store failed, or the chain has a version of the protocol that this
    /// program does not know.
    pub fn check(&mut self, block: PreparedBlock) -> Result<(), AuditError> {
        let PreparedBlock {
            header,
            transactions,
            receipts,
            certificate,
        } = block;
        let height = header.height;
        self.check_place(&header)?;
        let mut verified = Vec::with_capacity(transactions.len());
        for (index, transaction) in transactions.into_iter().enumerate() {
            let transaction =
                transaction.map_err(|error| Difference::transaction(height, index, &error))?;
            verified.push(Arc::new(transaction));
        }
        let count = verified.len() as u64;
        let mut executed = self.execute(&header, verified)?;
        compare_receipts(height, &receipts, &executed)?;
        let named = named_after(View::new(self.records.clone()), &executed.changes)?;
        let changes = LeafChanges::of(&executed.changes);
        let fetched = self.head.tree.fetch(&changes)?;
        executed.header.state_root = self.head.tree.update(&changes, fetched)?;
        let compared = compare_headers(&executed.header, &header).and_then(|()| {
            let certificate = certificate.as_ref();
            certificate.map_or(Ok(()), |c| self.check_certificate(&header, c))
        });
        if let Err(difference) = compared {
            // The tree has the changes of a block that is not stored.
            self.head.tree.discard();
            return Err(difference.into());
        }
        let next = named.map(|named| named.validators);
        self.write(executed, certificate.as_ref(), next)?;
        self.progress.transactions += count;
        Ok(())
    }

    /// Checks that a header is of the next block; so nothing is executed in the wrong place.
    fn check_place(&self, header: &Header) -> Result<(), Difference> {
        let before = &self.head.header;
        let next = before.height + 1;
        let differs = |field, reason| Difference::new(next, field, reason);
        if header.height != next {
            let reason = format!("the chain goes on with the block {}", header.height);
            return Err(differs(Field::Height, reason));
        }
        if header.chain_id != before.chain_id {
            let reason = format!("it is of the chain {}", header.chain_id);
            return Err(differs(Field::ChainId, reason));
        }
        if header.parent != self.head.hash {
            let reason = format!(
                "it is {}, and the header below is {}",
                header.parent, self.head.hash
            );
            return Err(differs(Field::Parent, reason));
        }
        let time_ms = header.timestamp_ms;
        if time_ms <= before.timestamp_ms || time_ms > BLOCK_TIME_MS_MAX {
            let reason = format!(
                "{time_ms} is not after {} and up to {BLOCK_TIME_MS_MAX}",
                before.timestamp_ms
            );
            return Err(differs(Field::Time, reason));
        }
        Ok(())
    }

    fn execute(
        &self,
        header: &Header,
        transactions: Vec<Arc<Verified<Transaction>>>,
    ) -> Result<ExecutedBlock, AuditError> {
        let origin = BlockOrigin {
            batch: header.batch,
            position: header.position,
            time_ms: header.timestamp_ms,
        };
        let view = View::new(self.records.clone());
        let executed = execute_block(view, &self.head, &origin, transactions)?;
        match executed.refused.first() {
            None => Ok(executed),
            Some((transaction, error)) => {
                let reason = format!("{transaction} does not belong into the block: {error}");
                Err(Difference::new(header.height, Field::Transaction, reason).into())
            }
        }
    }

    /// Checks a certificate against the validators that the state below has.
    fn check_certificate(
        &self,
        header: &Header,
        certificate: &Certificate,
    ) -> Result<(), Difference> {
        let height = header.height;
        let differs = |reason| Err(Difference::new(height, Field::Certificate, reason));
        if let Some(change) = self.open_change {
            return differs(format!(
                "the validators changed at height {change}, and no certificate shows that"
            ));
        }
        let hash = header.hash();
        if certificate.height != height || certificate.header != hash {
            return differs(format!(
                "it is on the header {} of height {}, and the header is {hash}",
                certificate.header, certificate.height
            ));
        }
        match certificate.verify(&self.head.validators) {
            Ok(()) => Ok(()),
            Err(error) => differs(format!("not by the validators in force: {error}")),
        }
    }

    fn write(
        &mut self,
        mut executed: ExecutedBlock,
        certificate: Option<&Certificate>,
        next: Option<Arc<ValidatorSet>>,
    ) -> Result<(), StateError> {
        let mut writes = WriteBatch::new();
        match self.keeps {
            Keeps::Everything => {
                tables::put_device_terms(&mut writes, &*self.records, &executed.changes)?;
            }
            // The bodies were compared, and are where they came from.
            Keeps::State => {
                executed.transactions.clear();
                executed.receipts.clear();
                executed.changes.events.clear();
                executed.lists = BlockLists::default();
            }
        }
        self.records.update(&executed.changes);
        put_block(&mut writes, &mut self.head, &executed, next.as_deref())?;
        if let Some(certificate) = certificate {
            tables::put_certificate(&mut writes, certificate);
        }
        self.kv.write(writes, Durability::Unsynced)?;
        let height = executed.header.height;
        self.head.hash = executed.header.hash();
        self.head.header = executed.header;
        self.progress.height = height;
        self.progress.time_ms = self.head.header.timestamp_ms;
        if certificate.is_some() {
            self.progress.certificates += 1;
            self.progress.certified = height;
        }
        if let Some(next) = next.filter(|next| **next != *self.head.validators) {
            self.progress.set_changes += 1;
            self.open_change = certificate.is_none().then_some(height);
            self.head.validators = next;
        }
        Ok(())
    }

    /// True if the chain has ever named a validator, or names an observer now, with this key or
    /// under this id.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn names_node(
        &self,
        genesis: &Genesis,
        node: u64,
        key: &PublicKey,
    ) -> Result<bool, StateError> {
        let is_in = |set: &ValidatorSet| set.by_key(key).is_some() || set.by_node(node).is_some();
        if is_in(&genesis.validators) || is_in(&self.head.validators) {
            return Ok(true);
        }
        for change in tables::set_changes(&*self.kv, 1..u64::MAX)? {
            let (_, set, _) = change?;
            if is_in(&set) {
                return Ok(true);
            }
        }
        let observers = named_nodes(&View::new(self.kv.clone()))?.observers;
        Ok(observers.iter().any(|o| o.key == *key || o.node == node))
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// The store failed.
    pub fn sync(&self) -> Result<(), StateError> {
        Ok(self.kv.sync()?)
    }

    /// Checks where an archive ends: its owner says that it has certified blocks up to a height.
    ///
    /// # Errors
    /// It ends before, or this audit has been further than that already.
    pub fn check_end(&self, certified: u64) -> Result<(), Difference> {
        let AuditProgress {
            height,
            certified: covered,
            ..
        } = self.progress;
        let end = |reason| Err(Difference::new(height + 1, Field::End, reason));
        if height < certified {
            return end(format!("there is no block, and {certified} are certified"));
        }
        if certified < height {
            return end(format!(
                "the chain is said to be certified up to {certified}, and this audit has seen \
                 the block {height}"
            ));
        }
        if covered < height {
            return end(format!(
                "the last certificate is of height {covered}, so the blocks above are nobody's"
            ));
        }
        Ok(())
    }
}
