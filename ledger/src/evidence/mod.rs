//! Evidence that a validator signed two contents for one place, as a file that anybody can check.
//!
//! A node keeps each piece as a file in the directory `evidence` beside its database, excludes the
//! validator from consensus as long as the file is there, raises an alarm that names it, and passes
//! the piece on. A file is JSON, with bytes in hexadecimal:
//!
//! - `two_logs`: a leader signed two logs in one term. `first` and `second` are its statements: the
//!   log `index`, the `digest` of the log up to there, and its signature under
//!   `"lamplighter/raft-append/2\0" || chain_id || term || node || index || digest` (numbers u64,
//!   little-endian). `base` is the digest of the second statement's log at the first index, and
//!   `entries` are the log's entries from there to the second index, each as its 25 bytes of header
//!   (kind, term, node, index) and the blake3 of its payload. Each digest is
//!   `blake3("lamplighter/raft-log/2\0" || digest before || header || payload hash)`. These
//!   statements
//!   contradict each other because the entries lead from `base` to the second digest, and `base` is
//!   not the first digest.
//! - `two_headers`: a validator attested two headers of one `height`. `first` and `second` are the
//!   header hashes with its signatures under `"lamplighter/attestation/2\0" || height || header`.
//!
//! [`Evidence::check`] checks a piece without a node: against the validators of the genesis file,
//! or
//! for a validator that came later against the set in a proof of the validators.
//!
//! # No honest validator is accused
//!
//! A leader's log only grows while it leads, it never leads the same term twice, and it signs the
//! digest that its store has: see `statement` in the crate `consensus`. A validator records height
//! and header durably before it attests, and attests no height twice, not even after its log was
//! dropped. So a crash, a second election, a message sent again and a replay make no evidence. A
//! validator's key belongs to one data directory and one chain (`store_identity` in the crate
//! `node`): an attestation does not name its chain, and a key that serves two of them could be
//! accused.

mod archive;

use lamplighter_consensus::{
    ChainLink, EvidenceError as LogEvidenceError, LeaderEvidence, LeaderStatement, LogDigest,
    SignatureBytes,
};
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::crypto::BadSignature;
use lamplighter_types::{Attestation, Hash, HexBytes, PublicKey, Signature, ValidatorSet};
use serde::{Deserialize, Serialize};

pub(crate) use self::archive::EvidenceStore;

/// A piece of evidence, in the form of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Evidence {
    /// A leader signed two logs in one term.
    TwoLogs(TwoLogs),
    /// A validator attested two headers of one height.
    TwoHeaders(TwoHeaders),
}

/// Two statements of one leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoLogs {
    pub chain_id: Hash,
    /// The leader, and its key.
    pub node: u64,
    pub key: PublicKey,
    pub term: u64,
    pub first: SignedDigest,
    pub second: SignedDigest,
    pub base: Hash,
    pub entries: Vec<EntryLink>,
}

/// A leader's signature under the digest of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDigest {
    pub index: u64,
    pub digest: Hash,
    pub signature: Signature,
}

/// The part of a log entry that its digest covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryLink {
    pub header: HexBytes,
    pub payload: Hash,
}

/// Two attestations of one validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoHeaders {
    pub chain_id: Hash,
    /// The validator, and its key.
    pub node: u64,
    pub key: PublicKey,
    pub height: u64,
    pub first: SignedHeader,
    pub second: SignedHeader,
}

/// A validator's signature under a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHeader {
    /// The hash of the header.
    pub header: Hash,
    pub signature: Signature,
}

/// Why something is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error("it is of another chain")]
    Chain,
    #[error("node {node} is no validator with the key {key}")]
    Validator { node: u64, key: PublicKey },
    #[error("the header of an entry has not 25 bytes")]
    Entry,
    #[error("the statements do not contradict each other")]
    Log(#[from] LogEvidenceError),
    #[error("both attestations are of the same header")]
    SameHeader,
    #[error("an attestation is not the validator's")]
    Attestation(#[from] BadSignature),
}

impl Evidence {
    /// The validator that signed both.
    pub fn node(&self) -> u64 {
        match self {
            Self::TwoLogs(logs) => logs.node,
            Self::TwoHeaders(headers) => headers.node,
        }
    }

    /// Its key.
    pub fn key(&self) -> PublicKey {
        match self {
            Self::TwoLogs(logs) => logs.key,
            Self::TwoHeaders(headers) => headers.key,
        }
    }

    /// The log index at which a leader's two logs are known to differ.
    pub fn log_index(&self) -> Option<u64> {
        match self {
            Self::TwoLogs(logs) => Some(logs.first.index),
            Self::TwoHeaders(_) => None,
        }
    }

    /// Reads a file.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_json(bytes)
    }

    /// The contents of the file.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("evidence is plain data")
    }

    /// Checks a piece against the validators of a chain, without a node.
    ///
    /// # Errors
    /// It accuses no validator of this set, or proves nothing.
    pub fn check(&self, chain_id: &Hash, validators: &ValidatorSet) -> Result<(), EvidenceError> {
        let (node, key) = (self.node(), self.key());
        let known = validators.by_node(node).map(|validator| validator.key);
        if known != Some(key) {
            return Err(EvidenceError::Validator { node, key });
        }
        self.check_signatures(chain_id)
    }

    fn check_signatures(&self, chain_id: &Hash) -> Result<(), EvidenceError> {
        match self {
            Self::TwoLogs(logs) => logs.check(chain_id),
            Self::TwoHeaders(headers) => headers.check(chain_id),
        }
    }
}

impl TwoLogs {
    fn new(chain_id: Hash, key: PublicKey, evidence: &LeaderEvidence) -> Self {
        let signed = |statement: &LeaderStatement| SignedDigest {
            index: statement.index,
            digest: Hash(statement.digest.0),
            signature: Signature(statement.signature.0),
        };
        let entries = evidence.links.iter().map(|link| EntryLink {
            header: link.header.to_vec().into(),
            payload: Hash(link.payload),
        });
        Self {
            chain_id,
            node: evidence.leader(),
            key,
            term: evidence.first.term,
            first: signed(&evidence.first),
            second: signed(&evidence.second),
            base: Hash(evidence.base.0),
            entries: entries.collect(),
        }
    }

    fn check(&self, chain_id: &Hash) -> Result<(), EvidenceError> {
        if self.chain_id != *chain_id {
            return Err(EvidenceError::Chain);
        }
        let statement = |signed: &SignedDigest| LeaderStatement {
            term: self.term,
            leader: self.node,
            index: signed.index,
            digest: LogDigest(signed.digest.0),
            signature: SignatureBytes(signed.signature.0),
        };
        let links = self.entries.iter().map(|entry| {
            let header = entry.header.0.as_slice().try_into();
            Ok(ChainLink {
                header: header.map_err(|_| EvidenceError::Entry)?,
                payload: entry.payload.0,
            })
        });
        let evidence = LeaderEvidence {
            first: statement(&self.first),
            second: statement(&self.second),
            base: LogDigest(self.base.0),
            links: links.collect::<Result<_, EvidenceError>>()?,
        };
        let verify = |message: &[u8], signature: &[u8; 64]| {
            self.key.verify(message, &Signature(*signature)).is_ok()
        };
        Ok(evidence.check(&chain_id.0, verify)?)
    }
}

impl TwoHeaders {
    fn new(chain_id: Hash, node: u64, attestations: &[Attestation; 2]) -> Self {
        let [first, second] = attestations;
        let signed = |attestation: &Attestation| SignedHeader {
            header: attestation.header,
            signature: attestation.signature,
        };
        Self {
            chain_id,
            node,
            key: first.key,
            height: first.height,
            first: signed(first),
            second: signed(second),
        }
    }

    fn check(&self, chain_id: &Hash) -> Result<(), EvidenceError> {
        if self.chain_id != *chain_id {
            return Err(EvidenceError::Chain);
        }
        if self.first.header == self.second.header {
            return Err(EvidenceError::SameHeader);
        }
        for signed in [&self.first, &self.second] {
            let attestation = Attestation {
                height: self.height,
                header: signed.header,
                key: self.key,
                signature: signed.signature,
            };
            attestation.verify()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
