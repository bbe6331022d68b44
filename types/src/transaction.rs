//! Transactions: signed requests. The signed bytes are the bytes that are kept; they are never
//! encoded again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::crypto::{BadSignature, Domain, SecretKey, SignedMessage};
use crate::limits::TRANSACTION_BYTES_MAX;
use crate::{Action, Hash, HexBytes, Id, PublicKey, Signature};

/// The encoding of a transaction's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Encoding {
    /// JSON by the rules of [`json`](crate::json), which any language can write.
    Json,
    /// The ledger's binary encoding, about half the size.
    Bincode,
}

/// A request of an account to the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Transaction {
    /// The account that acts.
    pub sender: Id,
    /// A number that the key uses once, in any order within a window of 1,024 below the highest
    /// one.
    pub sequence: u64,
    /// Unix time in ms from which on the transaction can no longer happen.
    pub expires_ms: u64,
    pub action: Action,
}

/// A transaction as it is sent and stored: bytes from outside until [`SignedTransaction::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedTransaction {
    pub encoding: Encoding,
    /// The key of the sender that signed.
    pub key: PublicKey,
    /// A [`Transaction`] in `encoding`.
    pub payload: HexBytes,
    pub signature: Signature,
}

/// Why bytes from outside are not a transaction of this chain.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    #[error("the transaction has {got} bytes, more than the {TRANSACTION_BYTES_MAX} allowed")]
    TooLong { got: usize },
    #[error("the payload is not a transaction")]
    Payload(#[source] CodecError),
    #[error("the signature was not made for these bytes on this chain")]
    Signature(#[source] BadSignature),
}

impl SignedTransaction {
    /// Encodes and signs `transaction` for the chain `chain_id`.
    pub fn sign(
        transaction: &Transaction,
        encoding: Encoding,
        chain_id: &Hash,
        secret: &SecretKey,
    ) -> Self {
        let payload = match encoding {
            Encoding::Json => serde_json::to_vec(transaction).expect("our types have JSON forms"),
            Encoding::Bincode => codec::encode(transaction),
        };
        let mut signed = Self {
            encoding,
            key: secret.public(),
            payload: HexBytes(payload),
            signature: Signature([0; 64]),
        };
        signed.signature = secret.sign(&signed.signing_bytes(chain_id));
        signed
    }

    /// The bytes that are signed: domain, chain, key, encoding, payload.
    pub fn signing_bytes(&self, chain_id: &Hash) -> Vec<u8> {
        let parts: [&[u8]; 4] = [
            &chain_id.0,
            &self.key.0,
            &[self.encoding as u8],
            &self.payload.0,
        ];
        Domain::Transaction.message(&parts)
    }

    /// The transaction's name: blake3 of the signed bytes, so that it does not depend on the
    /// signature.
    pub fn hash(&self, chain_id: &Hash) -> Hash {
        Hash::of(&self.signing_bytes(chain_id))
    }

    /// Decodes the payload without checking the signature.
    ///
    /// # Errors
    /// Too long, or not a transaction in its encoding.
    pub fn decode_payload(&self) -> Result<Transaction, TransactionError> {
        if self.payload.0.len() > TRANSACTION_BYTES_MAX {
            return Err(TransactionError::TooLong {
                got: self.payload.0.len(),
            });
        }
        match self.encoding {
            Encoding::Json => codec::decode_json(&self.payload.0),
            Encoding::Bincode => codec::decode(&self.payload.0),
        }
        .map_err(TransactionError::Payload)
    }

    /// Checks the signature and decodes the payload: the one way from bytes to a transaction that
    /// the ledger accepts.
    ///
    /// # Errors
    /// Too long, malformed, or not signed by its key for this chain.
    pub fn verify(self, chain_id: &Hash) -> Result<Verified<Transaction>, TransactionError> {
        let message = self.signing_bytes(chain_id);
        self.key
            .verify(&message, &self.signature)
            .map_err(TransactionError::Signature)?;
        let transaction = self.decode_payload()?;
        Ok(Verified {
            hash: Hash::of(&message),
            value: transaction,
            envelope: Arc::new(self),
        })
    }

    /// Verifies many transactions as [`verify`](Self::verify) does, with the signatures checked in
    /// batches.
    pub fn verify_all(
        transactions: Vec<Self>,
        chain_id: &Hash,
    ) -> Vec<Result<Verified<Transaction>, TransactionError>> {
        let messages: Vec<_> = transactions
            .iter()
            .map(|t| t.signing_bytes(chain_id))
            .collect();
        let items: Vec<_> = transactions
            .iter()
            .zip(&messages)
            .map(|(t, message)| SignedMessage {
                key: t.key,
                message,
                signature: t.signature,
            })
            .collect();
        let verdicts = crate::crypto::verify_all(&items);
        let decoded = transactions.into_iter().zip(&messages).zip(verdicts);
        decoded
            .map(|((signed, message), good)| {
                // The cheap check first: nobody pays for reading what is not signed.
                if !good {
                    return Err(TransactionError::Signature(BadSignature {
                        key: signed.key,
                    }));
                }
                let transaction = signed.decode_payload()?;
                let envelope = Arc::new(signed);
                Ok(Verified {
                    hash: Hash::of(message),
                    value: transaction,
                    envelope,
                })
            })
            .collect()
    }
}

/// A value whose signature was checked. Only [`SignedTransaction::verify`] and its batch form can
/// make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    hash: Hash,
    value: T,
    envelope: Arc<SignedTransaction>,
}

impl<T> Verified<T> {
    /// The transaction's name.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    pub fn get(&self) -> &T {
        &self.value
    }

    /// The bytes that came from outside.
    pub fn envelope(&self) -> &Arc<SignedTransaction> {
        &self.envelope
    }
}
