//! The steps of verification.

use super::{
    Ancestor, CertifiedHeader, HeaderProof, PROOF_VERSION, ProofBundle, Proven, ProvenRecord,
    RecordProof, SetChange, TrustedSet, VALIDATOR_SET_KEY,
};
use crate::codec::{self, CodecError};
use crate::limits::{SET_CHANGES_MAX, VALIDATORS_MAX};
use crate::merkle::{MerkleError, history};
use crate::{CertificateError, HEADER_VERSION, Hash, Header, TransactionError, ValidatorSet};

/// Why a bundle proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error("the format has version {got}, this verifier knows {PROOF_VERSION}")]
    Version { got: u32 },
    #[error("{got} changes of the validator set are more than the {SET_CHANGES_MAX} allowed")]
    SetChanges { got: usize },
    #[error(
        "the header at height {height} has version {got}, this verifier knows {HEADER_VERSION}"
    )]
    HeaderVersion { height: u64, got: u32 },
    #[error("the header at height {height} is of the chain {got}, not of {expected}")]
    Chain {
        height: u64,
        got: Hash,
        expected: Hash,
    },
    #[error("changes of the validator set must be in the order of heights, below the head")]
    Order,
    #[error(
        "the header at height {height} is older than the validators of height {trusted}, which are \
         trusted: a newer proof is needed"
    )]
    Older { height: u64, trusted: u64 },
    #[error(
        "the change of the validators at height {height} is signed by {got} of the validators of \
         height {trusted}, which are trusted, a quorum has {quorum}: a proof from height {trusted} \
         on is needed"
    )]
    Untrusted {
        height: u64,
        trusted: u64,
        got: usize,
        quorum: usize,
    },
    #[error(
        "the header at height {height} names other validators than those in force, as far as the \
         proof leads"
    )]
    Validators { height: u64 },
    #[error("the certificate at height {height} is on another header")]
    OtherHeader { height: u64 },
    #[error("the certificate at height {height} does not certify")]
    Certificate {
        height: u64,
        #[source]
        source: CertificateError,
    },
    #[error("a set has 1 to {VALIDATORS_MAX} validators, the one at height {height} has {got}")]
    SetSize { height: u64, got: usize },
    #[error("the next validators are not in the state at height {height}")]
    NextSet {
        height: u64,
        #[source]
        source: MerkleError,
    },
    #[error("the header at height {height} is not in the history of the head")]
    History {
        height: u64,
        #[source]
        source: MerkleError,
    },
    #[error("the record is not in the block at height {height}")]
    Record {
        height: u64,
        #[source]
        source: MerkleError,
    },
    #[error("the record does not decode")]
    Decode(#[source] CodecError),
    #[error("the transaction is not valid")]
    Transaction(#[source] TransactionError),
}

impl ProofError {
    /// True if the proof does not lead from the trusted validators to those of its head: one that
    /// begins at their height may.
    pub fn lacks_changes(&self) -> bool {
        matches!(self, Self::Untrusted { .. } | Self::Validators { .. })
    }
}

pub(super) fn verify(bundle: &ProofBundle, trusted: TrustedSet) -> Result<Proven, ProofError> {
    if bundle.version != PROOF_VERSION {
        return Err(ProofError::Version {
            got: bundle.version,
        });
    }
    let reached = verify_head(&bundle.head, &bundle.set_changes, &trusted)?;
    let head = &bundle.head.header;
    verify_record(&bundle.record, bundle.ancestor.as_ref(), head, &reached)
}

pub(super) fn verify_header<'a>(
    proof: &'a HeaderProof,
    trusted: &TrustedSet,
) -> Result<&'a Header, ProofError> {
    let HeaderProof {
        ancestor,
        head,
        set_changes,
    } = proof;
    verify_head(head, set_changes, trusted)?;
    match ancestor {
        Some(ancestor) => {
            check_ancestor(ancestor, &head.header)?;
            Ok(&ancestor.header)
        }
        None => Ok(&head.header),
    }
}

/// Checks a record under a head for which [`verify_head`] has returned `reached`: for many records
/// under one head.
///
/// # Errors
/// The header of the record's block is not in the history of the head, or the record not in that
/// block.
pub fn verify_record(
    record: &RecordProof,
    ancestor: Option<&Ancestor>,
    head: &Header,
    reached: &TrustedSet,
) -> Result<Proven, ProofError> {
    if let Some(ancestor) = ancestor {
        check_ancestor(ancestor, head)?;
    }
    let header = ancestor.map_or(head, |ancestor| &ancestor.header);
    Ok(Proven {
        record: check_record(record, header)?,
        height: header.height,
        time_ms: header.timestamp_ms,
        head: head.hash(),
        head_height: head.height,
        head_time_ms: head.timestamp_ms,
        trusted: reached.clone(),
    })
}

/// Checks that `head` is certified by the validators in force at its height, from the trusted ones
/// over `changes`, and returns them: what is trusted from now on.
///
/// # Errors
/// The first step that does not hold.
pub fn verify_head(
    head: &CertifiedHeader,
    changes: &[SetChange],
    trusted: &TrustedSet,
) -> Result<TrustedSet, ProofError> {
    let height = head.header.height;
    let last = changes.last().map(|c| c.certified.header.height);
    if last.is_some_and(|last| last >= height) {
        return Err(ProofError::Order);
    }
    // The set of the genesis file certifies the genesis block too.
    if height <= trusted.height && trusted.height > 0 {
        let trusted = trusted.height;
        return Err(ProofError::Older { height, trusted });
    }
    let reached = verify_changes(changes, trusted)?;
    check_certified(head, &reached.set, &reached.chain_id)?;
    Ok(reached)
}

/// Checks changes from the trusted set on and returns the set that they lead to. Those at or below
/// its height are passed over.
pub(super) fn verify_changes(
    changes: &[SetChange],
    trusted: &TrustedSet,
) -> Result<TrustedSet, ProofError> {
    let got = changes.len();
    if got > SET_CHANGES_MAX {
        return Err(ProofError::SetChanges { got });
    }
    let height = |change: &SetChange| change.certified.header.height;
    if changes.windows(2).any(|p| height(&p[0]) >= height(&p[1])) {
        return Err(ProofError::Order);
    }
    let mut reached = trusted.clone();
    let newer = changes.iter().filter(|c| height(c) > trusted.height);
    for change in newer {
        check_change(change, &reached)?;
        reached.height = height(change);
        reached.set.clone_from(&change.next);
    }
    Ok(reached)
}

/// Checks that the set in force certified a change, and that a quorum of the trusted set signed it.
fn check_change(change: &SetChange, trusted: &TrustedSet) -> Result<(), ProofError> {
    let SetChange {
        certified,
        in_force,
        next,
        path: _,
    } = change;
    let height = certified.header.height;
    check_size(in_force, height)?;
    check_size(next, height)?;
    // Cheap, and before any signature: most bundles for another trusted set end here.
    let got = trusted.set.count_signers(&certified.certificate);
    let quorum = trusted.set.quorum();
    if got < quorum {
        return Err(ProofError::Untrusted {
            height,
            trusted: trusted.height,
            got,
            quorum,
        });
    }
    check_certified(certified, in_force, &trusted.chain_id)?;
    check_next_set(change)
}

fn check_size(set: &ValidatorSet, height: u64) -> Result<(), ProofError> {
    let got = set.validators.len();
    if got == 0 || got > VALIDATORS_MAX {
        return Err(ProofError::SetSize { height, got });
    }
    Ok(())
}

fn check_header(header: &Header, chain_id: &Hash) -> Result<(), ProofError> {
    let height = header.height;
    if header.chain_id != *chain_id {
        return Err(ProofError::Chain {
            height,
            got: header.chain_id,
            expected: *chain_id,
        });
    }
    if header.version != HEADER_VERSION {
        return Err(ProofError::HeaderVersion {
            height,
            got: header.version,
        });
    }
    Ok(())
}

fn check_certified(
    certified: &CertifiedHeader,
    in_force: &ValidatorSet,
    chain_id: &Hash,
) -> Result<(), ProofError> {
    let CertifiedHeader {
        header,
        certificate,
    } = certified;
    let height = header.height;
    check_header(header, chain_id)?;
    if header.validators_hash != in_force.hash() {
        return Err(ProofError::Validators { height });
    }
    if certificate.height != height || certificate.header != header.hash() {
        return Err(ProofError::OtherHeader { height });
    }
    certificate
        .verify(in_force)
        .map_err(|source| ProofError::Certificate { height, source })
}

fn check_next_set(change: &SetChange) -> Result<(), ProofError> {
    let header = &change.certified.header;
    let height = header.height;
    let value = codec::encode(&change.next);
    change
        .path
        .verify_value(VALIDATOR_SET_KEY, &value, &header.state_root)
        .map_err(|source| ProofError::NextSet { height, source })
}

fn check_ancestor(ancestor: &Ancestor, head: &Header) -> Result<(), ProofError> {
    let header = &ancestor.header;
    check_header(header, &head.chain_id)?;
    history::verify(
        &header.hash(),
        header.height,
        head.height,
        &ancestor.path,
        &head.history_root,
    )
    .map_err(|source| ProofError::History {
        height: header.height,
        source,
    })
}

fn check_record(record: &RecordProof, header: &Header) -> Result<ProvenRecord, ProofError> {
    let absent = |source| ProofError::Record {
        height: header.height,
        source,
    };
    match record {
        RecordProof::Transaction { transaction, place } => {
            let item = codec::encode(transaction);
            place.verify(&item, &header.tx_root).map_err(absent)?;
            let verified = transaction.clone().verify(&header.chain_id);
            Ok(ProvenRecord::Transaction {
                transaction: verified.map_err(ProofError::Transaction)?,
                index: place.index,
            })
        }
        RecordProof::Receipt { receipt, place } => {
            place
                .verify(&receipt.0, &header.receipt_root)
                .map_err(absent)?;
            let receipt = codec::decode(&receipt.0).map_err(ProofError::Decode)?;
            let index = place.index;
            Ok(ProvenRecord::Receipt { receipt, index })
        }
        RecordProof::Event { event, place } => {
            place.verify(&event.0, &header.event_root).map_err(absent)?;
            let event = codec::decode(&event.0).map_err(ProofError::Decode)?;
            let index = place.index;
            Ok(ProvenRecord::Event { event, index })
        }
        RecordProof::State { key, value, path } => {
            let root = &header.state_root;
            match value {
                Some(value) => path.verify_value(&key.0, &value.0, root),
                None => path.verify_absence(&key.0, root),
            }
            .map_err(absent)?;
            Ok(ProvenRecord::State {
                key: key.0.clone(),
                value: value.as_ref().map(|value| value.0.clone()),
            })
        }
    }
}
