//! The sparse tree over the state. A key stands at the place that the bits of its blake3 digest
//! name, the first byte's highest bit first. A subtree with a single key is that key's leaf,
//! however high it stands; one without keys is [`Hash::ZERO`].

use serde::{Deserialize, Serialize};

use super::{MerkleError, STATE_LEAF, STATE_NODE, pair};
use crate::Hash;

/// Hashes of a path: at most one for each bit of a key's digest.
pub const PATH_MAX: usize = 256;

/// Root of the state without keys.
pub const EMPTY: Hash = Hash::ZERO;

/// Hash of a key with its value, from the digests of both.
pub fn leaf(key: &Hash, value: &Hash) -> Hash {
    pair(STATE_LEAF, key, value)
}

/// Hash over two subtrees that have more than one key together.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    pair(STATE_NODE, left, right)
}

/// Bit `depth` (0 to 255) of a key's digest: the path of the key branches right there if it is set.
pub fn branches_right(key: &Hash, depth: usize) -> bool {
    key.0[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// The leaf of another key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OtherLeaf {
    /// blake3 of the key.
    pub key: Hash,
    /// blake3 of the value.
    pub value: Hash,
}

/// The proof of a key, present or absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StateProof {
    /// The subtrees beside the path, from the root downwards, at most 256.
    pub siblings: Vec<Hash>,
    /// For an absent key: the only key at the end of its path, or none if nothing is there.
    pub other: Option<OtherLeaf>,
}

impl StateProof {
    /// Checks that `key` has `value` under `root`.
    ///
    /// # Errors
    /// The path is too long, belongs to an absent key, or leads elsewhere.
    pub fn verify_value(&self, key: &[u8], value: &[u8], root: &Hash) -> Result<(), MerkleError> {
        if self.other.is_some() {
            return Err(MerkleError::OtherLeaf);
        }
        let key = Hash::of(key);
        self.lead(&key, leaf(&key, &Hash::of(value)), root)
    }

    /// Checks that `key` has no value under `root`.
    ///
    /// # Errors
    /// The path is too long, ends at the key itself or off its path, or leads elsewhere.
    pub fn verify_absence(&self, key: &[u8], root: &Hash) -> Result<(), MerkleError> {
        let key = Hash::of(key);
        let end = match &self.other {
            None => EMPTY,
            Some(other) => {
                let shared = shared_bits(&key, &other.key);
                if shared == PATH_MAX || shared < self.siblings.len() {
                    return Err(MerkleError::OtherLeaf);
                }
                leaf(&other.key, &other.value)
            }
        };
        self.lead(&key, end, root)
    }

    fn lead(&self, key: &Hash, end: Hash, root: &Hash) -> Result<(), MerkleError> {
        let got = self.siblings.len();
        if got > PATH_MAX {
            return Err(MerkleError::Length { got });
        }
        let upwards = self.siblings.iter().enumerate().rev();
        let found = upwards.fold(end, |hash, (depth, sibling)| {
            if branches_right(key, depth) {
                node(sibling, &hash)
            } else {
                node(&hash, sibling)
            }
        });
        if found == *root {
            Ok(())
        } else {
            Err(MerkleError::Root)
        }
    }
}

/// Number of leading bits that two digests have in common.
pub fn shared_bits(a: &Hash, b: &Hash) -> usize {
    match a.0.iter().zip(&b.0).position(|(a, b)| a != b) {
        None => PATH_MAX,
        Some(at) => at * 8 + (a.0[at] ^ b.0[at]).leading_zeros() as usize,
    }
}
