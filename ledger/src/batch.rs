//! What Raft orders: transactions as they came from outside, the leader's clock, and the batch
//! before.

use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::limits::{BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX};
use lamplighter_types::{Hash, SignedTransaction};
use serde::{Deserialize, Serialize};

/// An ordered set of transactions, proposed to Raft. Every node makes the same block of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Digest of the batch that the leader saw before this one; a batch with another one is void.
    pub parent: Hash,
    /// The leader's clock, Unix time in ms.
    pub timestamp_ms: u64,
    pub transactions: Vec<SignedTransaction>,
}

impl Batch {
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// # Errors
    /// Too large or malformed: a leader that sends such a batch gets no block for it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let wanted = "Batch";
        if bytes.len() > BATCH_BYTES_MAX {
            let got = bytes.len();
            return Err(CodecError::TooLong {
                wanted,
                got,
                limit: BATCH_BYTES_MAX,
            });
        }
        let batch: Self = codec::decode(bytes)?;
        if batch.transactions.len() > BATCH_TRANSACTIONS_MAX {
            let got = batch.transactions.len();
            return Err(CodecError::TooLong {
                wanted,
                got,
                limit: BATCH_TRANSACTIONS_MAX,
            });
        }
        Ok(batch)
    }
}

/// Bytes that a transaction adds to an encoded batch, beyond its payload: encoding, key, length,
/// signature.
pub(crate) const TRANSACTION_OVERHEAD_BYTES: usize = 4 + 32 + 8 + 64;

/// Room for the fields of a batch beside its transactions.
pub(crate) const BATCH_OVERHEAD_BYTES: usize = 32 + 8 + 8;
