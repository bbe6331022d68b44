//! The execution of a block: a function of the block below, the transactions and where they come
//! from, for the state machine and for an audit alike.

use std::sync::Arc;

use lamplighter_contracts::tables::Table;
use lamplighter_contracts::{BlockContext, execute};
use lamplighter_state::tables::BlockLists;
use lamplighter_state::{Changes, Overlay, StateError, View};
use lamplighter_types::merkle::list;
use lamplighter_types::{HEADER_VERSION, Hash, Header, Outcome, Receipt};

use crate::chain::{ExecutedBlock, Head, named_nodes};
use crate::membership::NamedNodes;
use crate::submit::mempool::PendingTransaction;

/// What a block has from the log alone.
pub(crate) struct BlockOrigin {
    /// Digest of the batch.
    pub batch: Hash,
    /// Digest of the position of consensus after the entry.
    pub position: Hash,
    /// The time of the block.
    pub time_ms: u64,
}

/// Executes the transactions above a head, whose state the view shows, and makes the block in
/// memory. Its state root is still zero: the tree has to take the changes for that.
pub(crate) fn execute_block(
    view: View,
    head: &Head,
    origin: &BlockOrigin,
    transactions: Vec<PendingTransaction>,
) -> Result<ExecutedBlock, StateError> {
    let context = BlockContext {
        chain_id: head.header.chain_id,
        height: head.header.height + 1,
        time_ms: origin.time_ms,
    };
    let mut overlay = Overlay::new(view);
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
    let lists = BlockLists::of(&included, &receipts, &changes.events);
    let header = Header {
        version: HEADER_VERSION,
        chain_id: context.chain_id,
        height: context.height,
        parent: head.hash,
        timestamp_ms: context.time_ms,
        tx_root: list::block_root(lists.transactions.iter()),
        receipt_root: list::block_root(lists.receipts.iter()),
        event_root: list::block_root(lists.events.iter()),
        state_root: Hash::ZERO,
        history_root: head.history.root(),
        validators_hash: head.validators.hash(),
        batch: origin.batch,
        position: origin.position,
    };
    Ok(ExecutedBlock {
        header,
        transactions: included,
        receipts,
        refused,
        changes,
        lists,
    })
}

/// The nodes that a state names after these changes, if they change them.
pub(crate) fn named_after(view: View, changes: &Changes) -> Result<Option<NamedNodes>, StateError> {
    if !changes.writes.keys().any(|key| names_nodes(key)) {
        return Ok(None);
    }
    named_nodes(&Overlay::with_changes(view, changes.clone())).map(Some)
}

/// Returns whether a state key is of a table that names nodes.
fn names_nodes(key: &[u8]) -> bool {
    let table = key.first().copied();
    [Table::ValidatorSet, Table::Observer]
        .iter()
        .any(|t| table == Some(*t as u8))
}
