//! Merkle trees: the list tree of a block, the history of header hashes, the sparse tree of the
//! state, and the verifiers of their proofs. A verifier reads bytes from unknown sources: it never
//! panics, and its work is bounded by the height of a tree of 2^64 leaves or 2^256 keys.
//!
//! Every hash is blake3 over a tag byte and the parts below, so that a value of one kind can't be
//! taken for one of another:
//!
//! | tag | of | parts |
//! |---|---|---|
//! | 0 | leaf of a list | the item's bytes |
//! | 1 | node of a list | left, right |
//! | 2 | list of a block | number of items (u64, little-endian), root of the list |
//! | 3 | leaf of the state | blake3 of the key, blake3 of the value |
//! | 4 | node of the state | left, right |

pub mod history;
pub mod list;
pub mod sparse;

pub use history::History;
pub use list::{ListProof, ListTree};
pub use sparse::{OtherLeaf, StateProof};

use crate::Hash;

const LIST_LEAF: u8 = 0;
const LIST_NODE: u8 = 1;
const LIST_COUNT: u8 = 2;
const STATE_LEAF: u8 = 3;
const STATE_NODE: u8 = 4;

/// Why a proof does not lead to the root that it was checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    #[error("the index {index} is not below the number of leaves, {count}")]
    Index { index: u64, count: u64 },
    #[error("the old size {old} is above the new size {new}")]
    Sizes { old: u64, new: u64 },
    #[error("the path has {got} hashes, which does not fit the place in the tree")]
    Length { got: usize },
    #[error("the path leads to another root")]
    Root,
    #[error("the leaf shown in place of the absent key does not lie on its path")]
    OtherLeaf,
}

/// blake3 of a tag and two hashes.
fn pair(tag: u8, left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0; 65];
    bytes[0] = tag;
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash::of(&bytes)
}
