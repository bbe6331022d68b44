use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::code;
use crate::{Hash, Receipt};

/// A node's report about a gateway's transaction, on the gateway's receipt topic. A gateway that
/// does not trust the node takes it for a hint and asks for the proof.
///
/// A reader understands nodes of other versions: a refusal in its older form, and as
/// [`Announced`](Self::Announced) every other message that names a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "ReceivedMessage")]
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
    /// The transaction may be in a block: the rest of the message is of another version of the
    /// node. Nodes do not send it.
    Announced { transaction: Hash },
}

impl ReceiptMessage {
    /// The transaction that the message is about.
    pub fn transaction(&self) -> Option<Hash> {
        match self {
            Self::Committed { transaction, .. } | Self::Announced { transaction } => {
                Some(*transaction)
            }
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

/// A message as any version of a node may have written it.
#[derive(Deserialize)]
struct ReceivedMessage {
    transaction: Option<Hash>,
    height: Option<Value>,
    index: Option<Value>,
    receipt: Option<Value>,
    refused: Option<Value>,
    /// `refused` in the older form of a refusal.
    status: Option<Value>,
    /// Its reason in the older form, for people.
    detail: Option<Value>,
}

impl ReceivedMessage {
    fn refusal(&self) -> Option<RefusalReason> {
        let older_form = |message: &Value| RefusalReason {
            // The older form has no code; this is the one that its node answers over HTTP.
            code: code::TRANSACTION_INVALID.to_owned(),
            message: message.as_str().unwrap_or_default().to_owned(),
        };
        if let Some(refused) = &self.refused {
            let reason = RefusalReason::deserialize(refused);
            return Some(reason.unwrap_or_else(|_| older_form(refused)));
        }
        let is_older_form = self
            .status
            .as_ref()
            .is_some_and(|status| status == "refused");
        is_older_form.then(|| older_form(self.detail.as_ref().unwrap_or(&Value::Null)))
    }

    fn committed(&self, transaction: Hash) -> Option<ReceiptMessage> {
        Some(ReceiptMessage::Committed {
            transaction,
            height: self.height.as_ref()?.as_u64()?,
            index: self.index.as_ref()?.as_u64()?.try_into().ok()?,
            receipt: Receipt::deserialize(self.receipt.as_ref()?).ok()?,
        })
    }
}

impl TryFrom<ReceivedMessage> for ReceiptMessage {
    type Error = &'static str;

    fn try_from(message: ReceivedMessage) -> Result<Self, Self::Error> {
        if let Some(refused) = message.refusal() {
            let transaction = message.transaction;
            return Ok(Self::Refused {
                transaction,
                refused,
            });
        }
        let transaction = message.transaction.ok_or("it names no transaction")?;
        let committed = message.committed(transaction);
        Ok(committed.unwrap_or(Self::Announced { transaction }))
    }
}
