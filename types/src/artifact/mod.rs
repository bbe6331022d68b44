//! Artifacts in groups of 16 KiB, each of which can be checked on its own as it comes in.
//!
//! blake3 is a tree hash: the chaining values of the aligned groups, joined pairwise as in section
//! 2.1 of the blake3 paper, give the digest that the ledger has. The list of these values, the
//! *groups* of an artifact, is fetched first and checked against the digest; then every group of
//! the bytes is checked against its value, in any order and from any source.

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::Hash;
use crate::limits::ARTIFACT_BYTES_MAX;

/// Bytes of a group: 16 chunks of blake3. Small enough for a retry over a bad link, and 32 bytes
/// for each are 0.2 % of the artifact.
pub const GROUP_BYTES: usize = 16 * 1024;

/// Why bytes do not belong to an artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactMismatch {
    #[error("an artifact has 1 to {ARTIFACT_BYTES_MAX} bytes, not {0}")]
    Size(u64),
    #[error("{got} bytes of group values, {expected} fit an artifact of that size")]
    GroupsLength { expected: u64, got: usize },
    #[error("the group values do not give the digest {0}")]
    Digest(Hash),
    #[error("group {index} has {got} bytes instead of {expected}")]
    GroupLength {
        index: u64,
        expected: usize,
        got: usize,
    },
    #[error("group {0} is not what the digest stands for")]
    Group(u64),
}

/// The values of an artifact's groups, checked against its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    digest: Hash,
    size_bytes: u64,
    values: Vec<ChainingValue>,
}

/// Number of groups of an artifact.
pub fn group_count(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(GROUP_BYTES as u64)
}

fn check_size(size_bytes: u64) -> Result<(), ArtifactMismatch> {
    if (1..=ARTIFACT_BYTES_MAX).contains(&size_bytes) {
        Ok(())
    } else {
        Err(ArtifactMismatch::Size(size_bytes))
    }
}

/// Computes the group values of an artifact whose bytes come in order.
#[derive(Clone, Debug, Default)]
pub struct GroupsBuilder {
    whole: blake3::Hasher,
    pending: Vec<u8>,
    values: Vec<ChainingValue>,
    size_bytes: u64,
}

impl GroupsBuilder {
    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        self.size_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = GROUP_BYTES - self.pending.len();
            let (head, rest) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(head);
            bytes = rest;
            if self.pending.len() == GROUP_BYTES {
                self.end_group();
            }
        }
    }

    fn end_group(&mut self) {
        let index = self.values.len() as u64;
        self.values.push(value_of(index, &self.pending));
        self.pending.clear();
    }

    /// The artifact's groups, with its digest.
    ///
    /// # Errors
    /// No bytes, or more than an artifact may have.
    pub fn finish(mut self) -> Result<Groups, ArtifactMismatch> {
        check_size(self.size_bytes)?;
        if !self.pending.is_empty() {
            self.end_group();
        }
        let digest = Hash(*self.whole.finalize().as_bytes());
        Ok(Groups {
            digest,
            size_bytes: self.size_bytes,
            values: self.values,
        })
    }
}

/// The chaining value of a group. An artifact with a single group does not use it: there the group
/// is the root of the tree.
fn value_of(index: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * GROUP_BYTES as u64);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

impl Groups {
    /// Reads the group values that another node sent for the artifact `digest`.
    ///
    /// # Errors
    /// Wrong length, or values that do not give the digest.
    pub fn from_bytes(
        digest: Hash,
        size_bytes: u64,
        bytes: &[u8],
    ) -> Result<Self, ArtifactMismatch> {
        check_size(size_bytes)?;
        let expected = group_count(size_bytes) * 32;
        if bytes.len() as u64 != expected {
            return Err(ArtifactMismatch::GroupsLength {
                expected,
                got: bytes.len(),
            });
        }
        let (values, _) = bytes.as_chunks::<32>();
        let values = values.to_vec();
        if values.len() > 1 && root(size_bytes, &values) != digest {
            return Err(ArtifactMismatch::Digest(digest));
        }
        Ok(Self {
            digest,
            size_bytes,
            values,
        })
    }

    /// The group values in their order, 32 bytes each.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.as_flattened().to_vec()
    }

    pub fn digest(&self) -> Hash {
        self.digest
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number of groups.
    pub fn count(&self) -> u64 {
        self.values.len() as u64
    }

    /// Length in bytes of a group.
    pub fn group_bytes(&self, index: u64) -> usize {
        let begins = index.saturating_mul(GROUP_BYTES as u64);
        self.size_bytes
            .saturating_sub(begins)
            .min(GROUP_BYTES as u64) as usize
    }

    /// Checks one group.
    pub fn verify(&self, index: u64, bytes: &[u8]) -> Result<(), ArtifactMismatch> {
        let expected = self.group_bytes(index);
        if bytes.len() != expected || expected == 0 {
            return Err(ArtifactMismatch::GroupLength {
                index,
                expected,
                got: bytes.len(),
            });
        }
        let good = match self.values.len() {
            1 => Hash::of(bytes) == self.digest,
            _ => value_of(index, bytes) == self.values[index as usize],
        };
        if good {
            Ok(())
        } else {
            Err(ArtifactMismatch::Group(index))
        }
    }
}

/// The digest that two or more group values give.
fn root(size_bytes: u64, values: &[ChainingValue]) -> Hash {
    let left = (left_subtree_len(size_bytes) / GROUP_BYTES as u64) as usize;
    let (low, high) = values.split_at(left);
    let rest = size_bytes - (left * GROUP_BYTES) as u64;
    let low = subtree((left * GROUP_BYTES) as u64, low);
    Hash(*merge_subtrees_root(&low, &subtree(rest, high), Mode::Hash).as_bytes())
}

/// The chaining value of a part of the tree; its depth is that of a binary tree over the groups.
fn subtree(size_bytes: u64, values: &[ChainingValue]) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let left = (left_subtree_len(size_bytes) / GROUP_BYTES as u64) as usize;
    let (low, high) = values.split_at(left);
    let rest = size_bytes - (left * GROUP_BYTES) as u64;
    let low = subtree((left * GROUP_BYTES) as u64, low);
    merge_subtrees_non_root(&low, &subtree(rest, high), Mode::Hash)
}

#[cfg(test)]
mod tests;
