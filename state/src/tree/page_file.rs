//! The file of the pages that are not in memory.
//!
//! It has no name and ends with the process: at the start the tree is made of the state again.
//! So nothing in it has to be durable, and no crash can leave one that does not fit the state. What
//! comes back from it is checked against the hash of the page, which stays in memory.

use std::fs::File;
use std::num::NonZeroU8;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lamplighter_store::StoreError;
use lamplighter_types::Hash;

use super::nodes::LeafNode;
use super::{LeafChange, PAGE_KEYS_MAX};

/// Bytes of the digests of a key and its value.
pub(super) const LEAF_BYTES: usize = 64;
/// Leaves in a unit of space. Fewer would make more free lists, more would waste space.
const UNIT_LEAVES: usize = 4;
const UNIT_BYTES: u64 = (UNIT_LEAVES * LEAF_BYTES) as u64;
/// Units of the largest page.
const UNITS_MAX: usize = PAGE_KEYS_MAX.div_ceil(UNIT_LEAVES);

/// Where a page is in the file: its first unit, and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    first: u32,
    units: NonZeroU8,
}

/// The file; the module describes it. It is made when the first page is written.
#[derive(Debug)]
pub(super) struct PageFile {
    dir: PathBuf,
    file: Option<Arc<File>>,
    /// The first unit that was never used.
    end: u32,
    /// Free places, by their size in units less one.
    free: [Vec<u32>; UNITS_MAX],
}

impl PageFile {
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            file: None,
            end: 0,
            free: Default::default(),
        }
    }

    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    pub fn memory_bytes(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        free * size_of::<u32>()
    }

    /// Writes the leaves of a page over its old place if it fits there, and returns the place.
    /// After an error it has none any more.
    pub fn write(&mut self, old: Option<Place>, leaves: &[LeafNode]) -> Result<Place, StoreError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => Arc::new(
                tempfile::tempfile_in(&self.dir)
                    .map_err(failed(&self.dir, "make the file of the state tree in"))?,
            ),
        };
        let file = &*self.file.insert(file);
        let mut bytes = [0; PAGE_KEYS_MAX * LEAF_BYTES];
        let used = encode(leaves, &mut bytes);
        let units = units(leaves.len());
        let place = match old.filter(|place| place.units == units) {
            Some(place) => place,
            None => {
                if let Some(old) = old {
                    self.free[usize::from(old.units.get()) - 1].push(old.first);
                }
                let free = self.free[usize::from(units.get()) - 1].pop();
                let first = free.unwrap_or(self.end);
                if free.is_none() {
                    self.end += u32::from(units.get());
                }
                Place { first, units }
            }
        };
        let written = file.write_all_at(used, offset(place));
        written.map_err(failed(&self.dir, "write the file of the state tree in"))?;
        Ok(place)
    }

    /// A page of so many keys at a place, to be read.
    pub fn stored(&self, place: Place, keys: usize) -> StoredPage {
        StoredPage {
            dir: self.dir.clone(),
            file: self.file.clone(),
            place,
            keys,
        }
    }

    /// Frees the place of a page.
    pub fn free(&mut self, place: Place) {
        self.free[usize::from(place.units.get()) - 1].push(place.first);
    }
}

/// A page in the file. It can be read while the tree changes, which may write another page over it:
/// what comes back is that or a part of both, until its hash shows what it is.
#[derive(Debug)]
pub(super) struct StoredPage {
    dir: PathBuf,
    file: Option<Arc<File>>,
    place: Place,
    keys: usize,
}

impl StoredPage {
    /// Reads the leaves. They are not checked.
    pub fn read(&self) -> Result<Vec<LeafChange>, StoreError> {
        let mut bytes = [0; PAGE_KEYS_MAX * LEAF_BYTES];
        let bytes = &mut bytes[..self.keys * LEAF_BYTES];
        if let Some(file) = &self.file {
            let read = file.read_exact_at(bytes, offset(self.place));
            read.map_err(failed(&self.dir, "read the file of the state tree in"))?;
        }
        Ok(decode(bytes)
            .map(|leaf| (leaf.key, Some(leaf.value)))
            .collect())
    }
}

fn failed<'a>(
    dir: &'a Path,
    operation: &'static str,
) -> impl FnOnce(std::io::Error) -> StoreError + use<'a> {
    StoreError::io(operation, dir)
}

fn offset(place: Place) -> u64 {
    u64::from(place.first) * UNIT_BYTES
}

fn units(leaves: usize) -> NonZeroU8 {
    let units = u8::try_from(leaves.div_ceil(UNIT_LEAVES)).ok();
    let units = units.and_then(NonZeroU8::new);
    units.expect("a page has keys, and at most PAGE_KEYS_MAX")
}

/// Writes leaves into a buffer; returns the part that they take.
pub(super) fn encode<'a>(leaves: &[LeafNode], bytes: &'a mut [u8]) -> &'a [u8] {
    for (leaf, out) in leaves.iter().zip(bytes.chunks_exact_mut(LEAF_BYTES)) {
        out[..32].copy_from_slice(&leaf.key.0);
        out[32..].copy_from_slice(&leaf.value.0);
    }
    &bytes[..leaves.len() * LEAF_BYTES]
}

pub(super) fn decode(bytes: &[u8]) -> impl Iterator<Item = LeafNode> {
    bytes.chunks_exact(LEAF_BYTES).map(|leaf| {
        let (mut key, mut value) = ([0; 32], [0; 32]);
        key.copy_from_slice(&leaf[..32]);
        value.copy_from_slice(&leaf[32..]);
        LeafNode {
            key: Hash(key),
            value: Hash(value),
        }
    })
}
