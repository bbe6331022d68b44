use serde::{Deserialize, Serialize};

use crate::{Hash, Receipt};

/// A node's report about a gateway's transaction, on the gateway's receipt topic. A gateway that
/// does not trust the node takes it for a hint and asks for the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReceiptMessage {
    /// The transaction is in a block.
    Committed {
        transaction: Hash,
        /// Height of its block.
        height: u64,
        /// Its position among the transactions of the block.
        index: u32,
        receipt: Receipt,
    },
    /// The transaction is in no block. Either the edge did not accept it, or it could not be
    /// executed any more when its block was made.
    Refused {
        /// `None` when the message was no signed transaction at all.
        transaction: Option<Hash>,
        refused: RefusalReason,
    },
}

impl ReceiptMessage {
    /// The transaction that the message is about.
    pub fn transaction(&self) -> Option<Hash> {
        match self {
            Self::Committed { transaction, .. } => Some(*transaction),
            Self::Refused { transaction, .. } => *transaction,
        }
    }

    /// The JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("our types have JSON forms")
    }
}

/// The reason why a transaction is in no block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalReason {
    /// Stable, e.g. `admission.sequence_used` or `transaction.malformed`.
    pub code: String,
    /// For people.
    pub message: String,
}
