//! Proof bundles. A bundle shows, offline and from the genesis file alone, that a record is on the
//! ledger.
//!
//! # Format, version 2
//! A bundle is a [`ProofBundle`], as JSON or in the binary encoding of [`codec`](crate::codec). A
//! verifier checks it from its [`TrustedSet`]: that of the genesis file (height 0), or the newest
//! set that it has proven before.
//!
//! 1. The chain id (blake3 of the encoded [`Genesis`](crate::Genesis)) stands in every header.
//! 2. The set changes and then the head are in the order of heights. Changes at or below the height
//!    of the trusted set are passed over, and a head there is refused: it is older.
//! 3. Each other change has a header, the set in force at that header (which the header names), a
//!    certificate of that set, and the next set, which stands under [`VALIDATOR_SET_KEY`] in that
//!    header's state. **A quorum of the trusted set is among the signers.** The next set is then
//!    the trusted one, from the height of the header on.
//! 4. The head names the set that is trusted now, and has its certificate.
//! 5. The header of the record is the head, or lies under the head's `history_root`.
//! 6. The record lies under that header's `tx_root`, `receipt_root`, `event_root` or `state_root`.
//!
//! Records are carried as the exact bytes that were hashed, so that a verifier in another language
//! needs the encoding of headers, certificates and validator sets only. [`crate::merkle`] has the
//! hashes.
//!
//! People hand on a [`ProofFile`]: the bundle, perhaps with its record. A [`Statement`] has what it
//! proves, decoded from the proven bytes alone.
//!
//! # Why changes may be left out
//! A bundle need not list every change of the validators. Between two that it has, any number may
//! lie, as in the light clients of Tendermint, which skip blocks in the same way.
//!
//! *Assumptions.* Of the trusted set fewer keys than a quorum are, now, in hands that sign what is
//! not on the ledger. (A bundle that lists every change assumes the same: a quorum of
//! that set can forge the next change.) And an honest validator signs a header only if it computed
//! it itself, was in force there, and **has a certificate of each change of the validators below
//! it**: attesters wait for that.
//!
//! *Argument.* Among the signers of a change that is accepted is a quorum of the trusted set, so
//! at least one honest validator. It computed the header, so the chain below is the one from the
//! genesis file, and it has seen every change below the header certified by the set in force there.
//! So the set that the header names is the one to which a list of all changes leads, and the change
//! has that set's certificate: a verifier that is shown every change accepts it too. Skipping
//! accepts nothing that listing does not.
//!
//! One signature of the trusted set, or the third that Tendermint demands, would do if no retired
//! key was ever stolen. A full quorum makes retired keys as hard to abuse by a skip as without one.
//!
//! # Why an older set is refused
//! A quorum of retired keys can sign a history of its own, from its set on, with today's time. A
//! verifier that kept the newest set which it has proven checks everything from there: the keys of
//! all sets before are worth nothing to it. A verifier that has the genesis file alone depends on
//! the genesis keys for ever.

mod file;
mod statement;
mod trust;
mod verify;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::limits::PROOF_BYTES_MAX;
use crate::merkle::{ListProof, StateProof};
use crate::{
    Certificate, EventRecord, Hash, Header, HexBytes, Receipt, SignedTransaction, Transaction,
    ValidatorSet, Verified,
};

pub use file::{PROOF_FILE_BYTES_MAX, ProofFile, ProofFileError};
pub use statement::{BlockPart, ProvenSubject, SignedChange, Signer, Statement, StatementError};
pub use trust::{SetPath, TrustedSet, TrustedSetError};
pub use verify::{ProofError, verify_head, verify_record};

/// The key in the state under which the [`ValidatorSet`] of the next block stands, encoded.
pub const VALIDATOR_SET_KEY: &[u8] = &[0x60];

/// The version of the format that this code reads.
pub const PROOF_VERSION: u32 = 2;

/// Bytes of a bundle in JSON: hexadecimal digits double the bytes, and the fields have names.
pub const PROOF_JSON_BYTES_MAX: usize = 3 * PROOF_BYTES_MAX;

/// A record of the ledger with all that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProofBundle {
    /// Version of this format: 2.
    pub version: u32,
    pub record: RecordProof,
    /// The header of the record's block; none if that is the head.
    pub ancestor: Option<Ancestor>,
    pub head: CertifiedHeader,
    /// Changes of the validator set that lead to the one that certifies the head, lowest first.
    pub set_changes: Vec<SetChange>,
}

/// A record with its path to a root in the header of its block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RecordProof {
    Transaction {
        transaction: SignedTransaction,
        place: ListProof,
    },
    Receipt {
        /// An encoded [`Receipt`].
        receipt: HexBytes,
        place: ListProof,
    },
    Event {
        /// An encoded [`EventRecord`].
        event: HexBytes,
        place: ListProof,
    },
    /// The record, or its absence, under a key of the state after the block.
    State {
        key: HexBytes,
        /// The encoded record; none if the key was absent.
        value: Option<HexBytes>,
        path: StateProof,
    },
}

/// A header below the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ancestor {
    pub header: Header,
    /// The path from its leaf up to the head's `history_root`, at most 64 hashes.
    pub path: Vec<Hash>,
}

/// A header and the certificate on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CertifiedHeader {
    pub header: Header,
    pub certificate: Certificate,
}

/// The proof that a header is on the ledger, and with it the whole state and history that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderProof {
    /// The header, if it is not the head itself.
    pub ancestor: Option<Ancestor>,
    pub head: CertifiedHeader,
    /// Changes of the validator set that lead to the one that certifies the head, lowest first.
    pub set_changes: Vec<SetChange>,
}

impl HeaderProof {
    /// Checks the proof from a trusted set and returns the header.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub fn verify(&self, trusted: &TrustedSet) -> Result<&Header, ProofError> {
        verify::verify_header(self, trusted)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes the binary form.
    ///
    /// # Errors
    /// More than [`PROOF_BYTES_MAX`], or no such proof.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        check_length(bytes, PROOF_BYTES_MAX)?;
        codec::decode(bytes)
    }
}

/// A block after which other validators are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetChange {
    /// Certified by the validators in force, among them a quorum of those trusted before.
    pub certified: CertifiedHeader,
    /// The validators in force at the header, which it names.
    pub in_force: ValidatorSet,
    /// The validators in force from the next header on.
    pub next: ValidatorSet,
    /// The path of [`VALIDATOR_SET_KEY`] with `next` under the header's `state_root`.
    pub path: StateProof,
}

/// The proven record of a bundle. The caller decides whether `head_time_ms` is recent enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    pub record: ProvenRecord,
    /// Height of the record's block.
    pub height: u64,
    /// Unix time in ms of the record's block.
    pub time_ms: u64,
    /// The certified header to which the proof leads.
    pub head: Hash,
    pub head_height: u64,
    pub head_time_ms: u64,
    /// The set that certified the head: what the verifier trusts from now on.
    pub trusted: TrustedSet,
}

/// The record that was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvenRecord {
    Transaction {
        transaction: Verified<Transaction>,
        index: u64,
    },
    Receipt {
        receipt: Receipt,
        index: u64,
    },
    Event {
        event: EventRecord,
        index: u64,
    },
    /// `value` is the encoded record, none if the key was absent.
    State {
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    },
}

impl ProofBundle {
    /// Checks the bundle from a trusted set, or from that of a genesis file, as the module
    /// describes. Does no IO; the limits on set changes, validators and paths bound the work.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub fn verify(&self, trusted: impl Into<TrustedSet>) -> Result<Proven, ProofError> {
        verify::verify(self, trusted.into())
    }

    /// The header of the record's block.
    pub fn header(&self) -> &Header {
        match &self.ancestor {
            Some(ancestor) => &ancestor.header,
            None => &self.head.header,
        }
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes the binary form.
    ///
    /// # Errors
    /// More than [`PROOF_BYTES_MAX`], or no bundle.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        check_length(bytes, PROOF_BYTES_MAX)?;
        codec::decode(bytes)
    }

    /// The JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("our types have JSON forms")
    }

    /// Decodes the JSON form.
    ///
    /// # Errors
    /// More than [`PROOF_JSON_BYTES_MAX`], or no bundle.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CodecError> {
        check_length(bytes, PROOF_JSON_BYTES_MAX)?;
        codec::decode_json(bytes)
    }
}

fn check_length(bytes: &[u8], limit: usize) -> Result<(), CodecError> {
    if bytes.len() <= limit {
        Ok(())
    } else {
        Err(CodecError::TooLong {
            wanted: "ProofBundle",
            got: bytes.len(),
            limit,
        })
    }
}
