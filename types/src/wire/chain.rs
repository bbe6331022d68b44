use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::{
    Action, Block, Certificate, Hash, Id, PublicKey, Receipt, SignedTransaction, Transaction,
    TransactionError,
};

/// The content of a signed transaction, with its payload decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecodedTransaction {
    pub transaction: Hash,
    /// The account that acts.
    pub sender: Id,
    /// The key that signed.
    pub key: PublicKey,
    /// Used once per key.
    pub sequence: u64,
    /// Unix time in ms from which on it could no longer happen.
    pub expires_ms: u64,
    /// The requested action, as in the payload that is signed.
    pub action: Action,
}

impl DecodedTransaction {
    /// Decodes the payload; the signature is not checked.
    ///
    /// # Errors
    /// The payload is malformed.
    pub fn new(signed: &SignedTransaction, chain_id: &Hash) -> Result<Self, TransactionError> {
        let Transaction {
            sender,
            sequence,
            expires_ms,
            action,
        } = signed.decode_payload()?;
        Ok(Self {
            transaction: signed.hash(chain_id),
            sender,
            key: signed.key,
            sequence,
            expires_ms,
            action,
        })
    }
}

/// What names a transaction in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionName {
    Hash(Hash),
    /// Its block, and its number there.
    Place(Cursor),
}

/// A text that names no transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a transaction is named by its 64 hexadecimal digits, or by its place, e.g. 412.0")]
pub struct TransactionNameError;

impl FromStr for TransactionName {
    type Err = TransactionNameError;

    fn from_str(text: &str) -> Result<Self, TransactionNameError> {
        let place = text.parse().map(Self::Place);
        let hash = || text.parse().map(Self::Hash);
        place.or_else(|_| hash()).map_err(|_| TransactionNameError)
    }
}

impl fmt::Display for TransactionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash(hash) => hash.fmt(f),
            Self::Place(place) => place.fmt(f),
        }
    }
}

impl From<Hash> for TransactionName {
    fn from(hash: Hash) -> Self {
        Self::Hash(hash)
    }
}

/// A transaction in a block, with its sender, its action, its time and its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransactionRecord {
    #[serde(flatten)]
    pub decoded: DecodedTransaction,
    /// Block time, Unix ms.
    pub time_ms: u64,
    /// The block's height.
    pub height: u64,
    /// The position among the transactions of the block.
    pub index: u32,
    /// True if a certificate covers it.
    pub certified: bool,
    /// The effect. A transaction that failed is in a block too, and its receipt says why.
    pub receipt: Receipt,
}

/// A block with its receipts and, if it has one of its own, its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FullBlock {
    pub block: Block,
    pub hash: Hash,
    /// The transactions of `block` with their payloads decoded, in the same order.
    pub transactions: Vec<DecodedTransaction>,
    pub receipts: Vec<Receipt>,
    /// The block's own certificate, if it has one: a later one certifies it too.
    pub certificate: Option<Certificate>,
}
