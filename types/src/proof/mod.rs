//! Proof bundles. A bundle shows, offline and from the genesis file alone, that a record is on the
//! ledger.
//!
//! # Format, version 1
//! A bundle is a [`ProofBundle`], as JSON or in the binary encoding of [`codec`](crate::codec). It
//! is checked from the genesis file upwards:
//!
//! 1. The chain id (blake3 of the encoded [`Genesis`]) stands in every header.
//! 2. The validators of the genesis file are in force. Each set change, in the order of heights,
//!    has a header which names the set in force, a certificate of that set, and the next set, which
//!    stands under [`VALIDATOR_SET_KEY`] in that header's state. It is in force from the next
//!    height on.
//! 3. The head names the set now in force and has its certificate.
//! 4. The header of the record is the head, or lies under the head's `history_root`.
//! 5. The record lies under that header's `tx_root`, `receipt_root`, `event_root` or `state_root`.
//!
//! Records are carried as the exact bytes that were hashed, so that a verifier in another language
//! needs the encoding of headers, certificates and validator sets only. [`crate::merkle`] has the
//! hashes.
//!
//! People hand on a [`ProofFile`]: the bundle, perhaps with its record. A [`Statement`] has what it
//! proves, decoded from the proven bytes alone.

mod file;
mod statement;
mod verify;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::limits::PROOF_BYTES_MAX;
use crate::merkle::{ListProof, StateProof};
use crate::{
    Certificate, EventRecord, Genesis, Hash, Header, HexBytes, Receipt, SignedTransaction,
    Transaction, ValidatorSet, Verified,
};

pub use file::{PROOF_FILE_BYTES_MAX, ProofFile, ProofFileError};
pub use statement::{BlockPart, ProvenSubject, SignedChange, Signer, Statement, StatementError};
pub use verify::{ProofError, verify_head, verify_record};

/// The key in the state under which the [`ValidatorSet`] of the next block stands, encoded.
pub const VALIDATOR_SET_KEY: &[u8] = &[0x60];

/// The version of the format that this code reads.
pub const PROOF_VERSION: u32 = 1;

/// Bytes of a bundle in JSON: hexadecimal digits double the bytes, and the fields have names.
pub const PROOF_JSON_BYTES_MAX: usize = 3 * PROOF_BYTES_MAX;

/// A record of the ledger with all that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProofBundle {
    /// Version of this format: 1.
    pub version: u32,
    pub record: RecordProof,
    /// The header of the record's block; none if that is the head.
    pub ancestor: Option<Ancestor>,
    pub head: CertifiedHeader,
    /// Changes of the validator set below the head, lowest first.
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
    /// Changes of the validator set below the head, lowest first.
    pub set_changes: Vec<SetChange>,
}

impl HeaderProof {
    /// Checks the proof against the genesis file and returns the header.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub fn verify(&self, genesis: &Genesis) -> Result<&Header, ProofError> {
        verify::verify_header(self, genesis)
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
    /// Certified by the validators before the change.
    pub certified: CertifiedHeader,
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
    /// Checks the bundle against the genesis file, as the module describes. Does no IO; the work is
    /// bounded by the limits on set changes, validators and paths.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub fn verify(&self, genesis: &Genesis) -> Result<Proven, ProofError> {
        verify::verify(self, genesis)
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
