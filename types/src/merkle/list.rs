//! The tree over a list: shape, inclusion and consistency proofs of RFC 9162 section 2.1, with
//! blake3. A list of n > 1 items is split at the largest power of two below n; nothing is doubled.

use serde::{Deserialize, Serialize};

use super::history::{self, History};
use super::{LIST_COUNT, LIST_LEAF, LIST_NODE, MerkleError, pair};
use crate::Hash;

/// Hashes of a path in a tree of at most 2^64 leaves.
pub const PATH_MAX: usize = 64;
/// Hashes of a consistency proof, which has one more than a path.
pub const CONSISTENCY_MAX: usize = PATH_MAX + 1;

/// Hash of an item.
pub fn leaf(item: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[LIST_LEAF]);
    hasher.update(item);
    Hash(*hasher.finalize().as_bytes())
}

/// Hash over two subtrees.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    pair(LIST_NODE, left, right)
}

/// Root of a list without items: blake3 of nothing (RFC 9162 section 2.1.1).
pub fn empty_root() -> Hash {
    Hash::of(&[])
}

/// Root of the tree over `items`.
pub fn root<I: AsRef<[u8]>>(items: impl IntoIterator<Item = I>) -> Hash {
    let mut list = History::new();
    for item in items {
        list.append_leaf(leaf(item.as_ref()), |_| {});
    }
    list.root()
}

/// A root together with the number of items below it. Without that number an inner node could be
/// shown as a leaf's neighbour in a smaller list, and an index would say nothing.
pub fn counted(count: u64, root: &Hash) -> Hash {
    let mut bytes = [0; 41];
    bytes[0] = LIST_COUNT;
    bytes[1..9].copy_from_slice(&count.to_le_bytes());
    bytes[9..].copy_from_slice(&root.0);
    Hash::of(&bytes)
}

/// The root of a list in a header: its [`root`], [`counted`].
pub fn block_root<I: AsRef<[u8]>>(items: impl IntoIterator<Item = I>) -> Hash {
    let mut list = History::new();
    for item in items {
        list.append_leaf(leaf(item.as_ref()), |_| {});
    }
    counted(list.size(), &list.root())
}

/// Checks that the item with the leaf hash `leaf` is number `index` of the `size` under `root`
/// (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// The index is outside, the path has the wrong length, or it leads elsewhere.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), MerkleError> {
    if fold_path(leaf, index, size, path)? == *root {
        Ok(())
    } else {
        Err(MerkleError::Root)
    }
}

fn fold_path(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Result<Hash, MerkleError> {
    let length = MerkleError::Length { got: path.len() };
    if index >= size {
        return Err(MerkleError::Index { index, count: size });
    }
    if path.len() > PATH_MAX {
        return Err(length);
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            if at & 1 == 0 {
                // The right edge: levels at which this subtree has no sibling are skipped. `at` is
                // not zero, because it equals `last`.
                let up = at.trailing_zeros();
                at >>= up;
                last >>= up;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    Ok(hash)
}

/// Checks that the list of `new` items under `new_root` begins with the list of `old` items under
/// `old_root` (RFC 9162 section 2.1.4.2). Every list begins with the empty one, whose proof is
/// empty.
///
/// # Errors
/// Sizes in the wrong order, the wrong number of hashes, or hashes that lead elsewhere.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), MerkleError> {
    let length = MerkleError::Length { got: path.len() };
    if old > new {
        return Err(MerkleError::Sizes { old, new });
    }
    if path.len() > CONSISTENCY_MAX {
        return Err(length);
    }
    if old == new || old == 0 {
        let expected = if old == 0 { empty_root() } else { *new_root };
        return match (path.is_empty(), *old_root == expected) {
            (false, _) => Err(length),
            (true, false) => Err(MerkleError::Root),
            (true, true) => Ok(()),
        };
    }
    let (old_found, new_found) = fold_consistency(old, old_root, new, path)?;
    if old_found == *old_root && new_found == *new_root {
        Ok(())
    } else {
        Err(MerkleError::Root)
    }
}

fn fold_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    path: &[Hash],
) -> Result<(Hash, Hash), MerkleError> {
    let length = MerkleError::Length { got: path.len() };
    // A complete old tree is itself the first hash, and is left out.
    let (first, rest) = if old.is_power_of_two() {
        (old_root, path)
    } else {
        path.split_first().ok_or(length)?
    };
    let up = (old - 1).trailing_ones();
    let (mut at, mut last) = ((old - 1) >> up, (new - 1) >> up);
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            old_hash = node(sibling, &old_hash);
            new_hash = node(sibling, &new_hash);
            if at & 1 == 0 {
                let up = at.trailing_zeros();
                at >>= up;
                last >>= up;
            }
        } else {
            new_hash = node(&new_hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    match last {
        0 => Ok((old_hash, new_hash)),
        _ => Err(length),
    }
}

/// The place of an item in a list of a block, with its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListProof {
    pub index: u64,
    /// Number of items in the list.
    pub count: u64,
    /// The path from the leaf upwards, at most 64 hashes.
    pub path: Vec<Hash>,
}

impl ListProof {
    /// Checks that `item` stands there in the list with the [`block_root`] `root`.
    ///
    /// # Errors
    /// As [`verify_inclusion`].
    pub fn verify(&self, item: &[u8], root: &Hash) -> Result<(), MerkleError> {
        let found = fold_path(&leaf(item), self.index, self.count, &self.path)?;
        if counted(self.count, &found) == *root {
            Ok(())
        } else {
            Err(MerkleError::Root)
        }
    }
}

/// The tree over a list with all its complete subtrees, for making proofs.
#[derive(Clone, Debug, Default)]
pub struct ListTree {
    levels: Vec<Vec<Hash>>,
    list: History,
}

impl ListTree {
    /// Makes the tree over `items`; it keeps twice as many hashes.
    pub fn new<I: AsRef<[u8]>>(items: impl IntoIterator<Item = I>) -> Self {
        let mut tree = Self::default();
        for item in items {
            let levels = &mut tree.levels;
            tree.list.append_leaf(leaf(item.as_ref()), |node| {
                let level = usize::from(node.level);
                if levels.len() == level {
                    levels.push(Vec::new());
                }
                levels[level].push(node.hash);
            });
        }
        tree
    }

    /// Number of items.
    pub fn count(&self) -> u64 {
        self.list.size()
    }

    /// The root of this list in a header: see [`block_root`].
    pub fn block_root(&self) -> Hash {
        counted(self.list.size(), &self.list.root())
    }

    /// The proof of item `index`; `None` if there is no such item.
    pub fn prove(&self, index: u64) -> Option<ListProof> {
        let count = self.list.size();
        let node = |level: u8, index: u64| {
            let nodes = self.levels.get(usize::from(level));
            nodes.and_then(|n| n.get(index as usize)).copied().ok_or(())
        };
        let path = if index < count {
            history::inclusion_path(index, count, node).ok()?
        } else {
            return None;
        };
        Some(ListProof { index, count, path })
    }
}
