//! What an audit finds: the first place where a chain is not what its blocks make of it.

use std::fmt;

use lamplighter_system::error_chain;
use lamplighter_types::{Hash, Header, TransactionError};

use crate::chain::ExecutedBlock;

/// The part of a block that differs. A name has the letters of the header's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Version,
    ChainId,
    Height,
    Parent,
    Time,
    Transaction,
    TransactionRoot,
    Receipt,
    ReceiptRoot,
    EventRoot,
    StateRoot,
    HistoryRoot,
    Validators,
    Certificate,
    /// The chain ends where it should not.
    End,
}

impl Field {
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::ChainId => "chain_id",
            Self::Height => "height",
            Self::Parent => "parent",
            Self::Time => "timestamp_ms",
            Self::Transaction => "transaction",
            Self::TransactionRoot => "tx_root",
            Self::Receipt => "receipt",
            Self::ReceiptRoot => "receipt_root",
            Self::EventRoot => "event_root",
            Self::StateRoot => "state_root",
            Self::HistoryRoot => "history_root",
            Self::Validators => "validators_hash",
            Self::Certificate => "certificate",
            Self::End => "end",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The first difference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {height}, {field}: {reason}")]
pub struct Difference {
    pub height: u64,
    pub field: Field,
    pub reason: String,
}

impl Difference {
    pub(super) fn new(height: u64, field: Field, reason: impl Into<String>) -> Self {
        Self {
            height,
            field,
            reason: reason.into(),
        }
    }

    pub(super) fn transaction(height: u64, index: usize, error: &TransactionError) -> Self {
        let reason = format!("number {index}: {}", error_chain(error));
        Self::new(height, Field::Transaction, reason)
    }
}

/// Compares the receipts of an archive with those of the execution, byte by byte.
pub(super) fn compare_receipts(
    height: u64,
    stated: &[Vec<u8>],
    executed: &ExecutedBlock,
) -> Result<(), Difference> {
    let computed: Vec<_> = executed.lists.receipts.iter().collect();
    let differs = |(stated, computed): (&Vec<u8>, &&[u8])| stated != computed;
    let reason = match stated.iter().zip(&computed).position(differs) {
        Some(index) => {
            let receipt = executed.receipts.get(index);
            let transaction = receipt.map_or(Hash::ZERO, |receipt| receipt.transaction);
            format!("number {index}, of the transaction {transaction}, is not the one executed")
        }
        None if stated.len() != computed.len() => {
            format!("there are {}, executed {}", stated.len(), computed.len())
        }
        None => return Ok(()),
    };
    Err(Difference::new(height, Field::Receipt, reason))
}

/// Compares the header that was computed with the one of the chain.
pub(super) fn compare_headers(computed: &Header, stated: &Header) -> Result<(), Difference> {
    let Header {
        version,
        chain_id,
        height,
        parent,
        timestamp_ms,
        tx_root,
        receipt_root,
        event_root,
        state_root,
        history_root,
        validators_hash,
        // Taken from the header, as the module says.
        batch: _,
        position: _,
    } = computed;
    let pair = |a: &dyn ToString, b: &dyn ToString| (a.to_string(), b.to_string());
    let pairs = [
        (Field::Version, pair(version, &stated.version)),
        (Field::ChainId, pair(chain_id, &stated.chain_id)),
        (Field::Height, pair(height, &stated.height)),
        (Field::Parent, pair(parent, &stated.parent)),
        (Field::Time, pair(timestamp_ms, &stated.timestamp_ms)),
        (Field::TransactionRoot, pair(tx_root, &stated.tx_root)),
        (Field::ReceiptRoot, pair(receipt_root, &stated.receipt_root)),
        (Field::EventRoot, pair(event_root, &stated.event_root)),
        (Field::StateRoot, pair(state_root, &stated.state_root)),
        (Field::HistoryRoot, pair(history_root, &stated.history_root)),
        (
            Field::Validators,
            pair(validators_hash, &stated.validators_hash),
        ),
    ];
    let differing = pairs.into_iter().find(|(_, (a, b))| a != b);
    differing.map_or(Ok(()), |(field, (computed, stated))| {
        let reason = format!("the header has {stated}, executed {computed}");
        Err(Difference::new(*height, field, reason))
    })
}
