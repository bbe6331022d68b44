//! Blocks: the header with its transactions, the receipts, the attestation that each validator
//! signs, and the certificate that a quorum of attestations forms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::crypto::{Domain, SecretKey, SignedMessage, verify_all};
use crate::limits::{ADDRESS_BYTES_MAX, VALIDATORS_MAX};
use crate::{Hash, Id, Notification, PublicKey, Signature, SignedTransaction};

/// Version of the header's format. It changes with a version of the [`protocol`](crate::protocol).
pub const HEADER_VERSION: u32 = 2;

/// The header of a block, which validators sign. It is equal on all nodes that have the same log:
/// what executed the block ([`batch`](Self::batch)) and where it came in the log
/// ([`position`](Self::position)) is certified with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Header {
    pub version: u32,
    pub chain_id: Hash,
    pub height: u64,
    /// Hash of the header below; zero at height 0.
    pub parent: Hash,
    pub timestamp_ms: u64,
    /// [Counted](crate::merkle::list::block_root) RFC 9162 tree over the encoded
    /// [`SignedTransaction`]s.
    pub tx_root: Hash,
    /// The same kind of tree over the encoded [`Receipt`]s.
    pub receipt_root: Hash,
    /// The same kind of tree over the encoded [`EventRecord`](crate::record::EventRecord)s of this
    /// block.
    pub event_root: Hash,
    /// [Sparse Merkle tree](crate::merkle::sparse) over the whole state after this block.
    pub state_root: Hash,
    /// [RFC 9162 tree](crate::merkle::history) over the hashes of all earlier headers.
    pub history_root: Hash,
    /// Digest of the [`ValidatorSet`] that certifies this header: the one in the state of the block
    /// below.
    pub validators_hash: Hash,
    /// Digest of the batch that this block executed; zero at height 0.
    pub batch: Hash,
    /// Digest of the position of consensus after the entry that carried the batch: its log id, the
    /// membership in force there, and the digest of the log up to it; zero at height 0. The
    /// position itself is in the store of every node, and in its images.
    pub position: Hash,
}

impl Header {
    pub fn hash(&self) -> Hash {
        codec::digest(self)
    }
}

/// A header with the transactions it covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Block {
    pub header: Header,
    pub transactions: Vec<SignedTransaction>,
}

/// The facts of a refusal by name, such as `release` or `highest`: ids, hexadecimal digits, names
/// of states, decimal numbers, and texts of the refused action, cut to 256 bytes.
pub type RefusalFields = BTreeMap<String, String>;

/// The outcome of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Outcome {
    Succeeded,
    /// The action was refused and changed nothing. `code` is stable, e.g.
    /// `firmware.unknown_release`; `fields` has the facts of the refusal.
    Failed {
        code: String,
        fields: RefusalFields,
    },
}

/// The receipt of a transaction, equal on all nodes. The last receipt of a block may be that of the
/// block itself, with the transaction hash zero: it has what contracts did by block time alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    pub transaction: Hash,
    pub outcome: Outcome,
    pub notifications: Vec<Notification>,
}

impl Receipt {
    pub fn succeeded(&self) -> bool {
        self.outcome == Outcome::Succeeded
    }
}

/// A validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Validator {
    /// Its id in Raft, which no other node ever gets.
    pub node: u64,
    /// Its account, which relays and reports artifacts that it holds.
    pub account: Id,
    pub key: PublicKey,
    /// `host:port` where other nodes reach it.
    pub address: String,
}

impl Validator {
    /// Tells whether a text is a `host:port` that other nodes can dial.
    pub fn is_address(text: &str) -> bool {
        let Some((host, port)) = text.rsplit_once(':') else {
            return false;
        };
        let host_is_sound = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
        let port_is_sound = port.parse::<u16>().is_ok_and(|port| port > 0);
        text.len() <= ADDRESS_BYTES_MAX && host_is_sound && port_is_sound
    }
}

/// The validators in force, ordered by node id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ValidatorSet {
    pub validators: Vec<Validator>,
}

impl ValidatorSet {
    /// The number of equal attestations that make a certificate. For n validators of which f =
    /// (n-1)/3 may lie it is (n+f)/2 + 1, so that two certificates share an honest validator.
    pub fn quorum(&self) -> usize {
        let n = self.validators.len();
        let f = n.saturating_sub(1) / 3;
        (n + f) / 2 + 1
    }

    pub fn by_key(&self, key: &PublicKey) -> Option<&Validator> {
        self.validators.iter().find(|v| v.key == *key)
    }

    /// The number of validators of this set that signed a certificate. Signatures of others are not
    /// counted, and none is checked.
    pub fn count_signers(&self, certificate: &Certificate) -> usize {
        let is_signer = |v: &&Validator| certificate.signatures.iter().any(|s| s.key == v.key);
        self.validators.iter().filter(is_signer).count()
    }

    pub fn by_node(&self, node: u64) -> Option<&Validator> {
        self.validators.iter().find(|v| v.node == node)
    }

    pub fn hash(&self) -> Hash {
        codec::digest(self)
    }
}

/// One validator's signature on a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attestation {
    pub height: u64,
    pub header: Hash,
    pub key: PublicKey,
    pub signature: Signature,
}

impl Attestation {
    /// The bytes that are signed. The height is among them: a signature can't be shown as one for
    /// another height, so two of one key for one height and different headers prove a fault.
    fn message_of(height: u64, header: &Hash) -> Vec<u8> {
        Domain::Attestation.message(&[&height.to_le_bytes(), &header.0])
    }

    /// Signs a header. The caller must have made (height, header) durable first.
    pub fn sign(height: u64, header: Hash, secret: &SecretKey) -> Self {
        let signature = secret.sign(&Self::message_of(height, &header));
        Self {
            height,
            header,
            key: secret.public(),
            signature,
        }
    }

    /// The bytes that this attestation signs.
    pub fn message(&self) -> Vec<u8> {
        Self::message_of(self.height, &self.header)
    }

    pub fn verify(&self) -> Result<(), crate::crypto::BadSignature> {
        self.key.verify(&self.message(), &self.signature)
    }
}

/// One signature of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CertificateSignature {
    pub key: PublicKey,
    pub signature: Signature,
}

/// A certificate: a quorum of signatures on one header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Certificate {
    pub height: u64,
    pub header: Hash,
    /// Ordered by key, each key once.
    pub signatures: Vec<CertificateSignature>,
}

/// Why a certificate does not certify.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    #[error("{got} signatures, a quorum has {quorum}")]
    TooFew { got: usize, quorum: usize },
    #[error("{got} signatures are more than the {VALIDATORS_MAX} that a set can have")]
    TooMany { got: usize },
    #[error("signatures must be in the order of their keys, each key once")]
    Unordered,
    #[error("the key {key} is not of a validator in force")]
    Foreign { key: PublicKey },
    #[error("the signature of {key} is not on this header")]
    Signature { key: PublicKey },
}

impl Certificate {
    /// Makes a certificate of attestations of one header, in any order.
    pub fn from_attestations(height: u64, header: Hash, attestations: &[Attestation]) -> Self {
        let mut signatures: Vec<_> = attestations
            .iter()
            .map(|a| CertificateSignature {
                key: a.key,
                signature: a.signature,
            })
            .collect();
        signatures.sort_by_key(|s| s.key);
        signatures.dedup_by_key(|s| s.key);
        Self {
            height,
            header,
            signatures,
        }
    }

    /// Checks that a quorum of `set` signed this header at this height.
    ///
    /// # Errors
    /// Too few, repeated, foreign or wrong signatures; a single one suffices to refuse.
    pub fn verify(&self, set: &ValidatorSet) -> Result<(), CertificateError> {
        self.check_signers(set)?;
        let message = Attestation::message_of(self.height, &self.header);
        let items: Vec<_> = self
            .signatures
            .iter()
            .map(|signed| SignedMessage {
                key: signed.key,
                message: &message,
                signature: signed.signature,
            })
            .collect();
        match verify_all(&items).iter().position(|valid| !valid) {
            None => Ok(()),
            Some(at) => Err(CertificateError::Signature { key: items[at].key }),
        }
    }

    /// Checks that a quorum of `set` is named as signers, and verifies no signature: for a
    /// certificate that was made of attestations that were verified one by one.
    ///
    /// # Errors
    /// Too few, repeated or foreign signers; a single one suffices to refuse.
    pub fn check_signers(&self, set: &ValidatorSet) -> Result<(), CertificateError> {
        let (got, quorum) = (self.signatures.len(), set.quorum());
        if got > VALIDATORS_MAX {
            return Err(CertificateError::TooMany { got });
        }
        if got < quorum {
            return Err(CertificateError::TooFew { got, quorum });
        }
        if self
            .signatures
            .windows(2)
            .any(|pair| pair[0].key >= pair[1].key)
        {
            return Err(CertificateError::Unordered);
        }
        let is_foreign = |signed: &&CertificateSignature| set.by_key(&signed.key).is_none();
        match self.signatures.iter().find(is_foreign) {
            None => Ok(()),
            Some(CertificateSignature { key, .. }) => Err(CertificateError::Foreign { key: *key }),
        }
    }
}
