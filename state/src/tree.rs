//! The sparse Merkle tree of the state. All of it is in memory, rebuilt at the start. Its shape and
//! hashes are those of [`lamplighter_types::merkle::sparse`].
//!
//! Leaves and inner nodes are in two arenas and refer to each other by 32-bit numbers; a freed
//! place is used again. A key costs one leaf of 64 bytes and, on average, 1.44 inner nodes of 40
//! bytes.

use lamplighter_store::{Cf, Direction, KeyRange, KvView};
use lamplighter_types::Hash;
use lamplighter_types::merkle::sparse::{self, EMPTY, branches_right};
use lamplighter_types::merkle::{OtherLeaf, StateProof};

use crate::{Changes, StateError};

/// A reference to a subtree: to nothing, to a leaf or to an inner node by its place in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NodeRef(u32);

const NO_NODE: NodeRef = NodeRef(u32::MAX);
const LEAF_BIT: u32 = 1 << 31;

enum NodeKind {
    Nothing,
    Leaf(usize),
    Inner(usize),
}

impl NodeRef {
    fn leaf(at: usize) -> Self {
        Self(number(at) | LEAF_BIT)
    }

    fn inner(at: usize) -> Self {
        Self(number(at))
    }

    fn kind(self) -> NodeKind {
        if self == NO_NODE {
            NodeKind::Nothing
        } else if self.0 & LEAF_BIT != 0 {
            NodeKind::Leaf((self.0 & !LEAF_BIT) as usize)
        } else {
            NodeKind::Inner(self.0 as usize)
        }
    }
}

fn number(at: usize) -> u32 {
    let number = u32::try_from(at).ok().filter(|n| *n < LEAF_BIT - 1);
    number.expect("2^31 keys do not fit into memory")
}

#[derive(Clone, Copy, Debug)]
struct LeafNode {
    key: Hash,
    value: Hash,
}

#[derive(Clone, Copy, Debug)]
struct InnerNode {
    hash: Hash,
    left: NodeRef,
    right: NodeRef,
}

/// A key's digest with the digest of its value, `None` to delete it.
pub type LeafChange = (Hash, Option<Hash>);

/// The tree; the module describes it.
#[derive(Debug)]
pub struct Tree {
    root: NodeRef,
    leaves: Vec<LeafNode>,
    inner: Vec<InnerNode>,
    free_leaves: Vec<u32>,
    free_inner: Vec<u32>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: NO_NODE,
            leaves: Vec::new(),
            inner: Vec::new(),
            free_leaves: Vec::new(),
            free_inner: Vec::new(),
        }
    }
}

impl Tree {
    /// The tree without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds the tree of the state in `store`, in one pass over all of it.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(store: &dyn KvView) -> Result<Self, StateError> {
        let mut entries = Vec::new();
        for entry in store.scan(Cf::State, KeyRange::all(), Direction::Forward)? {
            let (key, value) = entry?;
            entries.push((Hash::of(&key), Hash::of(&value)));
        }
        Ok(Self::rebuild(entries))
    }

    /// Builds the tree of all entries `(blake3 of key, blake3 of value)`, in any order. If a key
    /// occurs more than once, its last entry counts.
    pub fn rebuild(entries: impl IntoIterator<Item = (Hash, Hash)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key, Some(value)));
        let entries: Vec<_> = entries.collect();
        let mut tree = Self::new();
        // Room to grow a little; doubling would waste half of it.
        tree.leaves
            .reserve_exact(entries.len() + entries.len() / 16);
        tree.inner.reserve_exact(entries.len() + entries.len() / 2);
        tree.update(entries);
        tree
    }

    /// Applies the state changes of a block and returns the new root. It can't be undone.
    pub fn apply(&mut self, changes: &Changes) -> Hash {
        let digests = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            (Hash::of(key), value.as_ref().map(|value| Hash::of(value)))
        };
        self.update(changes.writes.iter().map(digests))
    }

    /// Applies changes given as digests and returns the new root. If a key is changed more than
    /// once, the last change counts; deleting an absent key changes nothing.
    pub fn update(&mut self, changes: impl IntoIterator<Item = LeafChange>) -> Hash {
        let mut changes: Vec<LeafChange> = changes.into_iter().collect();
        changes.sort_by_key(|(key, _)| *key);
        keep_last(&mut changes);
        self.root = self.change(self.root, 0, &changes);
        self.root()
    }

    /// The root over all keys; [`EMPTY`] without keys.
    pub fn root(&self) -> Hash {
        self.hash(self.root)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.leaves.len() - self.free_leaves.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the tree has reserved.
    pub fn memory_bytes(&self) -> usize {
        let free = self.free_leaves.capacity() + self.free_inner.capacity();
        self.leaves.capacity() * size_of::<LeafNode>()
            + self.inner.capacity() * size_of::<InnerNode>()
            + free * size_of::<u32>()
    }

    /// The digest of the value under the key with the digest `key`.
    pub fn get(&self, key: &Hash) -> Option<Hash> {
        let end = self.descend(key, |_| {});
        end.filter(|leaf| leaf.key == *key).map(|leaf| leaf.value)
    }

    /// Proof of the value under `key`, or of its absence.
    pub fn prove(&self, key: &[u8]) -> StateProof {
        let key = &Hash::of(key);
        let mut siblings = Vec::new();
        let end = self.descend(key, |sibling| siblings.push(self.hash(sibling)));
        let other = end.filter(|leaf| leaf.key != *key);
        StateProof {
            siblings,
            other: other.map(|leaf| OtherLeaf {
                key: leaf.key,
                value: leaf.value,
            }),
        }
    }

    /// Walks down the path of `key`, past the given siblings, to the leaf at its end, if any.
    fn descend(&self, key: &Hash, mut pass: impl FnMut(NodeRef)) -> Option<LeafNode> {
        let (mut at, mut depth) = (self.root, 0);
        loop {
            match at.kind() {
                NodeKind::Nothing => return None,
                NodeKind::Leaf(leaf) => return Some(self.leaves[leaf]),
                NodeKind::Inner(inner) => {
                    let InnerNode { left, right, .. } = self.inner[inner];
                    let (next, sibling) = if branches_right(key, depth) {
                        (right, left)
                    } else {
                        (left, right)
                    };
                    pass(sibling);
                    at = next;
                    depth += 1;
                }
            }
        }
    }

    fn hash(&self, at: NodeRef) -> Hash {
        match at.kind() {
            NodeKind::Nothing => EMPTY,
            NodeKind::Leaf(leaf) => sparse::leaf(&self.leaves[leaf].key, &self.leaves[leaf].value),
            NodeKind::Inner(inner) => self.inner[inner].hash,
        }
    }

    /// Applies sorted changes, each key once, to the subtree `at`; returns what takes its place.
    fn change(&mut self, at: NodeRef, depth: usize, changes: &[LeafChange]) -> NodeRef {
        if changes.is_empty() {
            return at;
        }
        match at.kind() {
            NodeKind::Nothing => self.grow(depth, changes),
            NodeKind::Leaf(leaf) => self.change_leaf(leaf, depth, changes),
            NodeKind::Inner(inner) => {
                let InnerNode { left, right, .. } = self.inner[inner];
                let (to_left, to_right) = split(changes, depth);
                let left = self.change(left, depth + 1, to_left);
                let right = self.change(right, depth + 1, to_right);
                self.join(Some(inner), left, right)
            }
        }
    }

    /// Applies changes to a leaf. Most changes are of the key of the leaf, which is then
    /// overwritten in place.
    fn change_leaf(&mut self, leaf: usize, depth: usize, changes: &[LeafChange]) -> NodeRef {
        let LeafNode { key, value } = self.leaves[leaf];
        match changes.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => {
                if let ([_], Some(value)) = (changes, changes[at].1) {
                    self.leaves[leaf].value = value;
                    return NodeRef::leaf(leaf);
                }
                self.free_leaves.push(number(leaf));
                self.grow(depth, changes)
            }
            Err(_) if changes.iter().all(|(_, value)| value.is_none()) => NodeRef::leaf(leaf),
            Err(at) => {
                let mut all = Vec::with_capacity(changes.len() + 1);
                all.extend_from_slice(&changes[..at]);
                all.push((key, Some(value)));
                all.extend_from_slice(&changes[at..]);
                self.free_leaves.push(number(leaf));
                self.grow(depth, &all)
            }
        }
    }

    /// Makes a subtree of the sorted `changes` that are not deletions.
    fn grow(&mut self, depth: usize, changes: &[LeafChange]) -> NodeRef {
        match changes {
            [] => NO_NODE,
            [(key, value)] => match *value {
                Some(value) => self.new_leaf(LeafNode { key: *key, value }),
                None => NO_NODE,
            },
            _ => {
                let (to_left, to_right) = split(changes, depth);
                let left = self.grow(depth + 1, to_left);
                let right = self.grow(depth + 1, to_right);
                self.join(None, left, right)
            }
        }
    }

    /// Makes the node over two subtrees, in the place of `inner` if there is one. A single leaf
    /// needs no node.
    fn join(&mut self, inner: Option<usize>, left: NodeRef, right: NodeRef) -> NodeRef {
        let lone = match (left.kind(), right.kind()) {
            (NodeKind::Nothing, NodeKind::Nothing | NodeKind::Leaf(_)) => Some(right),
            (NodeKind::Leaf(_), NodeKind::Nothing) => Some(left),
            _ => None,
        };
        if let Some(lone) = lone {
            self.free_inner.extend(inner.map(number));
            return lone;
        }
        let hash = sparse::node(&self.hash(left), &self.hash(right));
        let node = InnerNode { hash, left, right };
        let reused = inner.or_else(|| self.free_inner.pop().map(|at| at as usize));
        match reused {
            Some(at) => {
                self.inner[at] = node;
                NodeRef::inner(at)
            }
            None => {
                self.inner.push(node);
                NodeRef::inner(self.inner.len() - 1)
            }
        }
    }

    fn new_leaf(&mut self, leaf: LeafNode) -> NodeRef {
        match self.free_leaves.pop() {
            Some(at) => {
                self.leaves[at as usize] = leaf;
                NodeRef::leaf(at as usize)
            }
            None => {
                self.leaves.push(leaf);
                NodeRef::leaf(self.leaves.len() - 1)
            }
        }
    }
}

/// Splits sorted changes whose keys share `depth` bits by the next bit.
fn split(changes: &[LeafChange], depth: usize) -> (&[LeafChange], &[LeafChange]) {
    changes.split_at(changes.partition_point(|(key, _)| !branches_right(key, depth)))
}

/// Keeps the last of neighbours with the same key.
fn keep_last(changes: &mut Vec<LeafChange>) {
    // `dedup_by` keeps the first of a run, so the later value is moved into it.
    changes.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = next.1;
        }
        same
    });
}
