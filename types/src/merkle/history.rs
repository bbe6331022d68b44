//! The tree over all header hashes. It only grows, and any header is proven under the newest one.
//!
//! The `history_root` of the header at height h is the root of the tree over the hashes of all
//! headers below it. Each complete subtree is hashed and stored once, under (level, index): it
//! covers the 2^level leaves from index * 2^level on. Roots and proofs of every size are made of
//! these.

use super::MerkleError;
use super::list::{self, empty_root};
use crate::Hash;

/// A complete subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryNode {
    /// 0 for leaves, at most 63.
    pub level: u8,
    /// Place among the subtrees of its level, from the left.
    pub index: u64,
    pub hash: Hash,
}

/// The growing list of headers, kept as the roots of its complete subtrees: O(log n) hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    size: u64,
    /// One root for each bit that is set in `size`, the largest subtree first.
    frontier: Vec<Hash>,
}

impl History {
    /// The history of no headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the history of the first `size` headers from stored nodes.
    ///
    /// # Errors
    /// The errors of `read`.
    pub fn load<E>(size: u64, mut read: impl FnMut(u8, u64) -> Result<Hash, E>) -> Result<Self, E> {
        let mut frontier = Vec::new();
        for level in (0..64).rev().filter(|level| size >> level & 1 == 1) {
            frontier.push(read(level, (size >> level) - 1)?);
        }
        Ok(Self { size, frontier })
    }

    /// Number of headers.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a header and returns the nodes that this completes, which are to be stored.
    ///
    /// # Panics
    /// After 2^64 - 1 headers.
    pub fn append(&mut self, header: &Hash) -> Vec<HistoryNode> {
        let mut nodes = Vec::new();
        self.append_leaf(list::leaf(&header.0), |node| nodes.push(node));
        nodes
    }

    pub(super) fn append_leaf(&mut self, leaf: Hash, mut completed: impl FnMut(HistoryNode)) {
        let mut node = HistoryNode {
            level: 0,
            index: self.size,
            hash: leaf,
        };
        completed(node);
        while node.index & 1 == 1 {
            let left = self.frontier.pop().expect("one for each bit of the size");
            node = HistoryNode {
                level: node.level + 1,
                index: node.index >> 1,
                hash: list::node(&left, &node.hash),
            };
            completed(node);
        }
        self.frontier.push(node.hash);
        self.size = self.size.checked_add(1).expect("no list has 2^64 items");
    }

    /// The root over all headers so far.
    pub fn root(&self) -> Hash {
        let mut subtrees = self.frontier.iter().rev();
        let Some(smallest) = subtrees.next() else {
            return empty_root();
        };
        subtrees.fold(*smallest, |hash, larger| list::node(larger, &hash))
    }
}

/// Path of leaf `index` in the tree over the first `size` leaves (RFC 9162 section 2.1.3.1), from
/// stored nodes. Empty when there is no such leaf.
///
/// # Errors
/// The errors of `read(level, index)`.
pub fn inclusion_path<E>(
    index: u64,
    size: u64,
    mut read: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut start, mut length) = (0, size);
    let mut path = Vec::new();
    while length > 1 && index < size {
        let left = split(length);
        if index - start < left {
            path.push(subtree(start + left, length - left, &mut read)?);
            length = left;
        } else {
            path.push(subtree(start, left, &mut read)?);
            start += left;
            length -= left;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proof that the tree over `new` leaves begins with the one over `old` (RFC 9162 section 2.1.4.1).
/// Empty unless `0 < old < new`.
///
/// # Errors
/// The errors of `read(level, index)`.
pub fn consistency_path<E>(
    old: u64,
    new: u64,
    mut read: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return Ok(path);
    }
    let (mut start, mut length) = (0, new);
    while start + length != old {
        let left = split(length);
        if old - start <= left {
            path.push(subtree(start + left, length - left, &mut read)?);
            length = left;
        } else {
            path.push(subtree(start, left, &mut read)?);
            start += left;
            length -= left;
        }
    }
    // The verifier knows the subtree that is left over if it is the whole old tree.
    if start != 0 {
        path.push(subtree(start, length, &mut read)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that the header with the hash `header` at `height` is under the history root of a header
/// at `head_height`.
///
/// # Errors
/// As [`list::verify_inclusion`].
pub fn verify(
    header: &Hash,
    height: u64,
    head_height: u64,
    path: &[Hash],
    history_root: &Hash,
) -> Result<(), MerkleError> {
    list::verify_inclusion(
        &list::leaf(&header.0),
        height,
        head_height,
        path,
        history_root,
    )
}

/// The largest power of two below `length`, which is above 1.
fn split(length: u64) -> u64 {
    1 << (63 - (length - 1).leading_zeros())
}

/// Hash of the leaves `start..start + length`, a subtree of the RFC's shape with at least one leaf.
fn subtree<E>(
    start: u64,
    length: u64,
    read: &mut impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Hash, E> {
    if length.is_power_of_two() {
        let level = length.trailing_zeros();
        return read(level as u8, start >> level);
    }
    let left = split(length);
    let left_hash = subtree(start, left, read)?;
    Ok(list::node(
        &left_hash,
        &subtree(start + left, length - left, read)?,
    ))
}
