//! The validators that a verifier trusts, and the changes that lead from them to newer ones.

use serde::{Deserialize, Serialize};

use super::verify::verify_changes;
use super::{PROOF_JSON_BYTES_MAX, PROOF_VERSION, ProofError, SetChange, check_length};
use crate::codec::{self, CodecError};
use crate::limits::VALIDATORS_MAX;
use crate::{Genesis, Hash, ValidatorSet};

/// The root of a verification: a validator set of the chain, that of the genesis file or a newer
/// one that was proven. A verifier that keeps the newest is safe from the keys of all before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrustedSet {
    pub chain_id: Hash,
    /// The block after which the set is in force; 0 for the set of the genesis file.
    pub height: u64,
    pub set: ValidatorSet,
}

/// Why a stored trusted set can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustedSetError {
    #[error("it is no set of trusted validators")]
    Malformed(#[source] CodecError),
    #[error("it is of the chain {got}, not of {expected}")]
    Chain { got: Hash, expected: Hash },
    #[error("it has {0} validators, a set has 1 to {VALIDATORS_MAX}")]
    Size(usize),
    #[error("it claims other validators at height 0 than the genesis file")]
    Genesis,
}

impl From<&Genesis> for TrustedSet {
    fn from(genesis: &Genesis) -> Self {
        Self {
            chain_id: genesis.chain_id(),
            height: 0,
            set: genesis.validators.clone(),
        }
    }
}

impl From<&TrustedSet> for TrustedSet {
    fn from(trusted: &TrustedSet) -> Self {
        trusted.clone()
    }
}

impl TrustedSet {
    /// Checks changes from this set on and returns the set that they lead to. Changes at or below
    /// this height are passed over.
    ///
    /// # Errors
    /// The first step that does not hold.
    pub fn advance(&self, changes: &[SetChange]) -> Result<Self, ProofError> {
        verify_changes(changes, self)
    }

    /// The indented JSON form, for a file that people look at.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("our types have JSON forms")
    }

    /// Decodes a file that its owner keeps, and checks that it belongs to the genesis file. The set
    /// itself can't be checked: whoever can write the file decides what is believed.
    ///
    /// # Errors
    /// Not a trusted set of this chain.
    pub fn from_json(bytes: &[u8], genesis: &Genesis) -> Result<Self, TrustedSetError> {
        let trusted: Self = codec::decode_json(bytes).map_err(TrustedSetError::Malformed)?;
        let (got, expected) = (trusted.chain_id, genesis.chain_id());
        if got != expected {
            return Err(TrustedSetError::Chain { got, expected });
        }
        let count = trusted.set.validators.len();
        if count == 0 || count > VALIDATORS_MAX {
            return Err(TrustedSetError::Size(count));
        }
        if trusted.height == 0 && trusted.set != genesis.validators {
            return Err(TrustedSetError::Genesis);
        }
        Ok(trusted)
    }
}

/// Changes of the validators that lead a verifier on from the set that it trusts. One that is far
/// behind fetches several, each from the height that the one before led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetPath {
    /// Version of this format: 2.
    pub version: u32,
    /// Lowest first; none if the trusted set is the newest one.
    pub set_changes: Vec<SetChange>,
    /// True if more changes follow.
    pub more: bool,
}

impl SetPath {
    /// Checks the changes from a trusted set on and returns the set that they lead to.
    ///
    /// # Errors
    /// Another version, or the first step that does not hold.
    pub fn verify(&self, trusted: &TrustedSet) -> Result<TrustedSet, ProofError> {
        if self.version != PROOF_VERSION {
            return Err(ProofError::Version { got: self.version });
        }
        trusted.advance(&self.set_changes)
    }

    /// Decodes the JSON form.
    ///
    /// # Errors
    /// More than [`PROOF_JSON_BYTES_MAX`], or no such path.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CodecError> {
        check_length(bytes, PROOF_JSON_BYTES_MAX)?;
        codec::decode_json(bytes)
    }
}
