//! Transactions: signed requests. The signed bytes are the bytes that are kept; they are never
//! encoded again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::crypto::{BadSignature, Domain, SecretKey, SignedMessage};
use crate::json::JsonDecodeError;
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

    /// The account that acts, of a transaction that is in a block: its payload was decoded before
    /// it came there, so no more of it is decoded than the name.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn stored_sender(&self) -> Result<Id, TransactionError> {
        /// The part of a transaction that is wanted; the other fields are passed over.
        #[derive(Deserialize)]
        struct Sender {
            sender: Id,
        }
        let sender = match self.encoding {
            Encoding::Json => serde_json::from_slice(&self.payload.0)
                .map(|Sender { sender }| sender)
                .map_err(|error| CodecError::Json {
                    wanted: "a transaction",
                    source: JsonDecodeError::Form {
                        path: String::new(),
                        message: error.to_string(),
                    },
                }),
            Encoding::Bincode => codec::decode_first(&self.payload.0),
        };
        sender.map_err(TransactionError::Payload)
    }

    /// Checks the signature and decodes the payload: the one way from bytes to a transaction that
    /// the ledger accepts.
    ///
    /// # Errors
    /// Too long, malformed, or not signed by its key for this chain.
    pub fn verify(self, chain_id: &Hash) -> Result<Verified<Transaction>, TransactionError> {
        let unverified = UnverifiedTransaction::new(self, chain_id);
        let UnverifiedTransaction {
            envelope, message, ..
        } = &unverified;
        let verdict = envelope.key.verify(message, &envelope.signature);
        unverified.accept(verdict.is_ok())
    }

    /// Verifies many transactions as [`verify`](Self::verify) does, with the signatures checked in
    /// batches.
    pub fn verify_all(
        transactions: Vec<Self>,
        chain_id: &Hash,
    ) -> Vec<Result<Verified<Transaction>, TransactionError>> {
        let unverified = transactions.into_iter();
        let unverified = unverified.map(|signed| UnverifiedTransaction::new(signed, chain_id));
        UnverifiedTransaction::verify_all(unverified.collect())
    }
}

/// A transaction from outside with the bytes that are signed and its name, which follow from each
/// other and are made once.
#[derive(Clone, Debug)]
pub struct UnverifiedTransaction {
    envelope: SignedTransaction,
    message: Vec<u8>,
    hash: Hash,
}

impl UnverifiedTransaction {
    pub fn new(envelope: SignedTransaction, chain_id: &Hash) -> Self {
        let message = envelope.signing_bytes(chain_id);
        Self {
            hash: Hash::of(&message),
            envelope,
            message,
        }
    }

    /// The transaction's name: see [`SignedTransaction::hash`].
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The bytes that came from outside.
    pub fn envelope(&self) -> &SignedTransaction {
        &self.envelope
    }

    /// Verifies many transactions: see [`SignedTransaction::verify_all`].
    pub fn verify_all(all: Vec<Self>) -> Vec<Result<Verified<Transaction>, TransactionError>> {
        fn item(unverified: &UnverifiedTransaction) -> SignedMessage<'_> {
            SignedMessage {
                key: unverified.envelope.key,
                message: &unverified.message,
                signature: unverified.envelope.signature,
            }
        }
        let items: Vec<_> = all.iter().map(item).collect();
        let verdicts = crate::crypto::verify_all(&items);
        let verified = all.into_iter().zip(verdicts);
        verified
            .map(|(unverified, good)| unverified.accept(good))
            .collect()
    }

    /// Decodes a transaction of a block whose signature nobody looks at: for an audit that leaves
    /// the signatures out, and says so. Nothing else may use it.
    ///
    /// # Errors
    /// Too long, or malformed.
    pub fn without_signature_check(self) -> Result<Verified<Transaction>, TransactionError> {
        self.accept(true)
    }

    /// Accepts a transaction whose signature is good, if it can be decoded. The cheap check comes
    /// first: nobody pays for reading what is not signed.
    fn accept(self, good: bool) -> Result<Verified<Transaction>, TransactionError> {
        let key = self.envelope.key;
        if !good {
            return Err(TransactionError::Signature(BadSignature { key }));
        }
        Ok(Verified {
            value: self.envelope.decode_payload()?,
            hash: self.hash,
            envelope: Arc::new(self.envelope),
        })
    }
}

/// A value whose signature was checked. Only [`SignedTransaction::verify`] and its batch form can
/// make one, but for an audit without signatures.
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
