//! The sparse Merkle tree of the state. Its shape and hashes are those of
//! [`lamplighter_types::merkle::sparse`].
//!
//! Its lower levels are *pages*: subtrees of at most [`PAGE_KEYS_MAX`] keys. The tree above them is
//! in memory, with the hash of each page. Of the pages themselves those used lately are in memory;
//! the others are in a file as their leaves alone, and are checked against their hash when they
//! come back. A page costs 88 bytes in memory with its part of the tree above, 8 to 9 bytes a key.
//!
//! The file is no durable form of the tree: at each start the tree is made of the state.
//!
//! - [`nodes`] are the nodes in memory, and the changes inside of a page.
//! - [`page_table`] has the pages, and moves them between memory and file.
//! - [`page_file`] is the file.
//! - [`load`] makes the tree of a stored state.

mod load;
mod nodes;
mod page_file;
mod page_table;

use std::collections::BTreeMap;
use std::path::Path;

use lamplighter_types::Hash;
use lamplighter_types::merkle::sparse::{self, EMPTY};
use lamplighter_types::merkle::{OtherLeaf, StateProof};

use self::nodes::{InnerNode, NO_NODE, NodeKind, NodeRef, split};
use self::page_table::{PageTable, PathEnd};
use crate::{Changes, StateError};

/// Most keys of a page. Twice as many would take half of the memory above the pages (50 MB with a
/// million devices), and twice the time to bring a page back, which hashes all of it.
pub(crate) const PAGE_KEYS_MAX: usize = 16;
/// Two pages become one when they have no more keys together: half of a page, so that the next
/// changes do not split it again.
const MERGED_KEYS_MAX: usize = PAGE_KEYS_MAX / 2;
/// Pages that are read before a block is written; those of a larger block are read while it is.
const FETCHED_PAGES_MAX: usize = 8_192;

/// A key's digest with the digest of its value, `None` to delete it.
pub type LeafChange = (Hash, Option<Hash>);

/// Changes in the order of the keys' digests, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafChanges(Vec<LeafChange>);

impl LeafChanges {
    /// The changes of a block.
    pub fn of(changes: &Changes) -> Self {
        let writes = changes.writes.iter();
        writes
            .map(|(key, value)| (Hash::of(key), value.as_ref().map(|value| Hash::of(value))))
            .collect()
    }
}

/// In any order. If a key is changed more than once, its last change counts.
impl FromIterator<LeafChange> for LeafChanges {
    fn from_iter<I: IntoIterator<Item = LeafChange>>(changes: I) -> Self {
        let mut changes: Vec<_> = changes.into_iter().collect();
        changes.sort_by_key(|(key, _)| *key);
        // `dedup_by` keeps the first of a run, so the later value is moved into it.
        changes.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = next.1;
            }
            same
        });
        Self(changes)
    }
}

/// Leaves of pages that were read ahead of a change, by page. They are checked when they are used.
#[derive(Debug, Default)]
pub struct FetchedPages(BTreeMap<usize, Vec<LeafChange>>);

/// A proof whose last page may still have to be read from the file. The tree may change meanwhile:
/// it is not borrowed.
#[derive(Debug)]
pub struct BegunProof {
    key: Hash,
    siblings: Vec<Hash>,
    end: PathEnd,
}

impl BegunProof {
    /// Reads what is not in memory.
    ///
    /// # Errors
    /// The file can't be read. [`StateError::Mismatch`] if the page is not what was written; so it
    /// is, too, if the tree has changed since and has written another page there.
    pub fn complete(mut self) -> Result<StateProof, StateError> {
        let siblings = &mut self.siblings;
        let end = self
            .end
            .leaf(&self.key, &mut |sibling| siblings.push(sibling))?;
        let other = end.filter(|leaf| leaf.key != self.key);
        Ok(StateProof {
            siblings: self.siblings,
            other: other.map(|leaf| OtherLeaf {
                key: leaf.key,
                value: leaf.value,
            }),
        })
    }
}

/// The tree; the module describes it.
#[derive(Debug)]
pub struct Tree {
    root: NodeRef,
    table: PageTable,
    /// Set while a change is incomplete, and for ever if it failed.
    incomplete: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self::with(PageTable::in_memory())
    }
}

impl Tree {
    /// The tree without keys, all in memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree without keys, which keeps about so many keys with their nodes in memory and the
    /// others in a file without a name in `dir`.
    pub fn on_disk(dir: &Path, keys_in_memory: usize) -> Self {
        Self::with(PageTable::on_disk(dir.to_owned(), keys_in_memory))
    }

    /// The tree without keys that keeps its pages as this one does.
    pub fn empty_like(&self) -> Self {
        Self::with(self.table.empty_like())
    }

    fn with(table: PageTable) -> Self {
        Self {
            root: NO_NODE,
            table,
            incomplete: false,
        }
    }

    /// The tree of all entries `(blake3 of key, blake3 of value)` in memory, in any order. If a key
    /// occurs more than once, its last entry counts.
    pub fn of(entries: impl IntoIterator<Item = (Hash, Hash)>) -> Result<Self, StateError> {
        let entries = entries.into_iter().map(|(key, value)| (key, Some(value)));
        let mut tree = Self::new();
        tree.update(&entries.collect(), FetchedPages::default())?;
        Ok(tree)
    }

    /// Reads pages that a change needs, up to a number, so that [`update`](Self::update) with the
    /// same changes need not wait for the disk while it excludes readers.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn fetch(&self, changes: &LeafChanges) -> Result<FetchedPages, StateError> {
        let mut fetched = FetchedPages::default();
        self.fetch_below(self.root, 0, &changes.0, &mut fetched.0)?;
        Ok(fetched)
    }

    fn fetch_below(
        &self,
        at: NodeRef,
        depth: usize,
        changes: &[LeafChange],
        fetched: &mut BTreeMap<usize, Vec<LeafChange>>,
    ) -> Result<(), StateError> {
        if changes.is_empty() || fetched.len() >= FETCHED_PAGES_MAX {
            return Ok(());
        }
        match at.kind() {
            NodeKind::Nothing => {}
            NodeKind::End(page) => {
                if let Some(leaves) = self.table.read(page)? {
                    fetched.insert(page, leaves);
                }
            }
            NodeKind::Inner(inner) => {
                let InnerNode { left, right, .. } = self.table.nodes.inner(inner);
                let (to_left, to_right) = split(changes, depth);
                self.fetch_below(left, depth + 1, to_left, fetched)?;
                self.fetch_below(right, depth + 1, to_right, fetched)?;
            }
        }
        Ok(())
    }

    /// Applies changes and returns the new root. It can't be undone; deleting an absent key changes
    /// nothing.
    ///
    /// # Errors
    /// The file can't be read or written, or a page is not what was written. From then on the tree
    /// makes no proofs and takes no changes.
    pub fn update(
        &mut self,
        changes: &LeafChanges,
        fetched: FetchedPages,
    ) -> Result<Hash, StateError> {
        self.check_complete()?;
        self.incomplete = true;
        self.table.fetched = fetched.0;
        self.root = self.change(self.root, 0, &changes.0)?;
        self.table.fetched.clear();
        self.incomplete = false;
        Ok(self.root())
    }

    /// Gives the tree up: it belongs to no state.
    pub fn discard(&mut self) {
        self.incomplete = true;
    }

    fn check_complete(&self) -> Result<(), StateError> {
        if self.incomplete {
            return Err(StateError::TreeIncomplete);
        }
        Ok(())
    }

    /// The root over all keys; [`EMPTY`] without keys.
    pub fn root(&self) -> Hash {
        self.hash(self.root)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.table.keys
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the tree has reserved in memory.
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    /// The digest of the value under the key with the digest `key`.
    ///
    /// # Errors
    /// As [`prove`](Self::prove).
    pub fn get(&self, key: &Hash) -> Result<Option<Hash>, StateError> {
        let end = self.descend(*key)?.end.leaf(key, &mut |_| {})?;
        Ok(end.filter(|leaf| leaf.key == *key).map(|leaf| leaf.value))
    }

    /// Proof of the value under `key`, or of its absence.
    ///
    /// # Errors
    /// The file can't be read, a page is not what was written, or a change failed before.
    pub fn prove(&self, key: &[u8]) -> Result<StateProof, StateError> {
        self.begin_proof(key)?.complete()
    }

    /// Begins the proof of the value under `key` without waiting for the disk.
    ///
    /// # Errors
    /// A change failed before.
    pub fn begin_proof(&self, key: &[u8]) -> Result<BegunProof, StateError> {
        self.descend(Hash::of(key))
    }

    /// Walks down the path of `key` as far as it is in memory.
    fn descend(&self, key: Hash) -> Result<BegunProof, StateError> {
        self.check_complete()?;
        let mut siblings = Vec::new();
        let mut pass = |sibling| siblings.push(sibling);
        let (mut at, mut depth) = (self.root, 0);
        let end = loop {
            match at.kind() {
                NodeKind::Nothing => break PathEnd::Found(None),
                NodeKind::End(page) => break self.table.descend(page, depth, &key, &mut pass),
                NodeKind::Inner(inner) => {
                    let (next, sibling) = self.table.nodes.inner(inner).branch(&key, depth);
                    pass(self.hash(sibling));
                    (at, depth) = (next, depth + 1);
                }
            }
        };
        Ok(BegunProof { key, siblings, end })
    }

    /// The hash of a subtree above the pages, or of a page.
    fn hash(&self, at: NodeRef) -> Hash {
        match at.kind() {
            NodeKind::Nothing => EMPTY,
            NodeKind::End(page) => self.table.hash(page),
            NodeKind::Inner(inner) => self.table.nodes.inner(inner).hash,
        }
    }

    /// Applies sorted changes, each key once, to the subtree `at`; returns what takes its place.
    fn change(
        &mut self,
        at: NodeRef,
        depth: usize,
        changes: &[LeafChange],
    ) -> Result<NodeRef, StateError> {
        if changes.is_empty() {
            return Ok(at);
        }
        match at.kind() {
            NodeKind::Nothing => self.table.grow(depth, changes),
            NodeKind::End(page) => self.table.change(page, depth, changes),
            NodeKind::Inner(inner) => {
                let InnerNode { left, right, .. } = self.table.nodes.inner(inner);
                let (to_left, to_right) = split(changes, depth);
                let left = self.change(left, depth + 1, to_left)?;
                let right = self.change(right, depth + 1, to_right)?;
                self.join(inner, depth, left, right)
            }
        }
    }

    /// Makes the node over two subtrees in the place of `inner`, or one page of both if they are
    /// small.
    fn join(
        &mut self,
        inner: usize,
        depth: usize,
        left: NodeRef,
        right: NodeRef,
    ) -> Result<NodeRef, StateError> {
        let keys = self.table.keys_of(left).zip(self.table.keys_of(right));
        if keys.is_some_and(|(left, right)| left + right <= MERGED_KEYS_MAX) {
            return self.table.merge(inner, depth, left, right);
        }
        let hash = sparse::node(&self.hash(left), &self.hash(right));
        let node = InnerNode { hash, left, right };
        self.table.nodes.set_inner(inner, node);
        Ok(NodeRef::inner(inner))
    }
}
