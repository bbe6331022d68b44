//! Nodes in memory, those of the upper tree and those of pages.
//!
//! Leaves and inner nodes are in two arenas and refer to each other by 32-bit numbers; a freed
//! place is used again. The functions here work inside of pages, where an end is a leaf.

use lamplighter_types::Hash;
use lamplighter_types::merkle::sparse::{self, EMPTY, branches_right};

use super::LeafChange;

/// A reference to a subtree: to nothing, to an inner node, or to the end of a path, which is a leaf
/// inside of a page and a page in the tree above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeRef(u32);

pub(super) const NO_NODE: NodeRef = NodeRef(u32::MAX);
const END_BIT: u32 = 1 << 31;

pub(super) enum NodeKind {
    Nothing,
    Inner(usize),
    End(usize),
}

impl NodeRef {
    pub fn end(at: usize) -> Self {
        Self(number(at) | END_BIT)
    }

    pub fn inner(at: usize) -> Self {
        Self(number(at))
    }

    pub fn kind(self) -> NodeKind {
        if self == NO_NODE {
            NodeKind::Nothing
        } else if self.0 & END_BIT != 0 {
            NodeKind::End((self.0 & !END_BIT) as usize)
        } else {
            NodeKind::Inner(self.0 as usize)
        }
    }
}

pub(super) fn number(at: usize) -> u32 {
    let number = u32::try_from(at).ok().filter(|n| *n < END_BIT - 1);
    number.expect("2^31 nodes do not fit into memory")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeafNode {
    pub key: Hash,
    pub value: Hash,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct InnerNode {
    pub hash: Hash,
    pub left: NodeRef,
    pub right: NodeRef,
}

/// All nodes in memory.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    leaves: Vec<LeafNode>,
    inner: Vec<InnerNode>,
    free_leaves: Vec<u32>,
    free_inner: Vec<u32>,
}

impl Nodes {
    /// Number of leaves.
    pub fn leaf_count(&self) -> usize {
        self.leaves.len() - self.free_leaves.len()
    }

    pub fn memory_bytes(&self) -> usize {
        let free = self.free_leaves.capacity() + self.free_inner.capacity();
        self.leaves.capacity() * size_of::<LeafNode>()
            + self.inner.capacity() * size_of::<InnerNode>()
            + free * size_of::<u32>()
    }

    pub fn inner(&self, at: usize) -> InnerNode {
        self.inner[at]
    }

    pub fn set_inner(&mut self, at: usize, node: InnerNode) {
        self.inner[at] = node;
    }

    /// The hash of a subtree inside of a page.
    pub fn hash(&self, at: NodeRef) -> Hash {
        match at.kind() {
            NodeKind::Nothing => EMPTY,
            NodeKind::End(leaf) => sparse::leaf(&self.leaves[leaf].key, &self.leaves[leaf].value),
            NodeKind::Inner(inner) => self.inner[inner].hash,
        }
    }

    /// Walks down the path of `key` from the subtree `at`, past the given siblings, to the leaf at
    /// its end, if any.
    pub fn descend(
        &self,
        mut at: NodeRef,
        mut depth: usize,
        key: &Hash,
        pass: &mut dyn FnMut(Hash),
    ) -> Option<LeafNode> {
        loop {
            match at.kind() {
                NodeKind::Nothing => return None,
                NodeKind::End(leaf) => return Some(self.leaves[leaf]),
                NodeKind::Inner(inner) => {
                    let (next, sibling) = self.inner[inner].branch(key, depth);
                    pass(self.hash(sibling));
                    (at, depth) = (next, depth + 1);
                }
            }
        }
    }

    /// Adds the leaves of a subtree, in the order of their keys.
    pub fn collect(&self, at: NodeRef, leaves: &mut Vec<LeafNode>) {
        match at.kind() {
            NodeKind::Nothing => {}
            NodeKind::End(leaf) => leaves.push(self.leaves[leaf]),
            NodeKind::Inner(inner) => {
                self.collect(self.inner[inner].left, leaves);
                self.collect(self.inner[inner].right, leaves);
            }
        }
    }

    /// Frees the places of a subtree.
    pub fn free(&mut self, at: NodeRef) {
        match at.kind() {
            NodeKind::Nothing => {}
            NodeKind::End(leaf) => self.free_leaves.push(number(leaf)),
            NodeKind::Inner(inner) => {
                let InnerNode { left, right, .. } = self.inner[inner];
                self.free(left);
                self.free(right);
                self.free_inner.push(number(inner));
            }
        }
    }

    /// Applies sorted changes, each key once, to the subtree `at`; returns what takes its place.
    pub fn change(&mut self, at: NodeRef, depth: usize, changes: &[LeafChange]) -> NodeRef {
        if changes.is_empty() {
            return at;
        }
        match at.kind() {
            NodeKind::Nothing => self.grow(depth, changes),
            NodeKind::End(leaf) => self.change_leaf(leaf, depth, changes),
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
                    return NodeRef::end(leaf);
                }
                self.free_leaves.push(number(leaf));
                self.grow(depth, changes)
            }
            Err(_) if changes.iter().all(|(_, value)| value.is_none()) => NodeRef::end(leaf),
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
    pub fn grow(&mut self, depth: usize, changes: &[LeafChange]) -> NodeRef {
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

    /// Makes the node over two subtrees of a page, in the place of `inner` if there is one. A
    /// single leaf needs no node.
    pub fn join(&mut self, inner: Option<usize>, left: NodeRef, right: NodeRef) -> NodeRef {
        let lone = match (left.kind(), right.kind()) {
            (NodeKind::Nothing, NodeKind::Nothing | NodeKind::End(_)) => Some(right),
            (NodeKind::End(_), NodeKind::Nothing) => Some(left),
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
                NodeRef::end(at as usize)
            }
            None => {
                self.leaves.push(leaf);
                NodeRef::end(self.leaves.len() - 1)
            }
        }
    }
}

impl InnerNode {
    /// The child on the path of `key`, and the one beside it.
    pub fn branch(&self, key: &Hash, depth: usize) -> (NodeRef, NodeRef) {
        if branches_right(key, depth) {
            (self.right, self.left)
        } else {
            (self.left, self.right)
        }
    }
}

/// Splits sorted changes whose keys share `depth` bits by the next bit.
pub(super) fn split(changes: &[LeafChange], depth: usize) -> (&[LeafChange], &[LeafChange]) {
    changes.split_at(changes.partition_point(|(key, _)| !branches_right(key, depth)))
}
