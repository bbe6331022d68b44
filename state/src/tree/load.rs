//! The tree of a stored state, in bounded memory.
//!
//! The state is read once, by two threads if it is large. The digests are parted by their first
//! byte; what does not fit into memory goes to a file without a name. Then part after part is
//! sorted and added to the tree.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::thread;

use lamplighter_store::{Cf, Direction, KeyRange, KvView, StoreError};
use lamplighter_types::Hash;

use super::nodes::LeafNode;
use super::page_file::{LEAF_BYTES, decode, encode};
use super::{FetchedPages, LeafChanges, Tree};
use crate::StateError;

/// Parts: one for each first byte.
const PARTS: usize = 256;
/// Leaves of a part in memory, 16 KiB.
const PART_LEAVES: usize = 256;
const CHUNK_BYTES: usize = PART_LEAVES * LEAF_BYTES;
/// Rows that one thread reads before another one helps: a fraction of a second.
const ROWS_ALONE: usize = 1 << 16;

impl Tree {
    /// Adds all of a stored state to a tree without keys.
    ///
    /// # Errors
    /// The store failed, or the file of the tree.
    pub fn load(mut self, store: &dyn KvView) -> Result<Self, StateError> {
        let spill = Spill::new(self.table.dir());
        let mut read = read_all(store, &spill)?;
        for part in 0..PARTS {
            let mut leaves = spill.read(part)?;
            for parts in &mut read {
                leaves.append(&mut parts.leaves[part]);
            }
            let changes = leaves.into_iter().map(|leaf| (leaf.key, Some(leaf.value)));
            let changes: LeafChanges = changes.collect();
            self.update(&changes, FetchedPages::default())?;
        }
        Ok(self)
    }
}

/// Reads the state; returns what is not in the file, by thread.
fn read_all(store: &dyn KvView, spill: &Spill) -> Result<Vec<Parts>, StateError> {
    let mut first = Parts::new();
    let Some(last) = first.read(store, KeyRange::all(), ROWS_ALONE, spill)? else {
        return Ok(vec![first]);
    };
    let ranges = Mutex::new(ranges_after(&last).into_iter());
    let next = || {
        let mut ranges = ranges.lock().expect("no holder panics");
        ranges.next()
    };
    let work = || -> Result<Parts, StateError> {
        let mut parts = Parts::new();
        while let Some(range) = next() {
            parts.read(store, range, usize::MAX, spill)?;
        }
        Ok(parts)
    };
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(work);
        (work(), other.join().expect("the work does not panic"))
    });
    Ok(vec![first, one?, other?])
}

/// All keys after one, cut by their first byte, which is the table.
fn ranges_after(last: &[u8]) -> Vec<KeyRange> {
    let (after, table) = ([last, &[0]].concat(), last.first().copied().unwrap_or(0));
    let mut rest = KeyRange::prefix([table].to_vec());
    rest.start = after.into();
    let others = (table..u8::MAX).map(|before| KeyRange::prefix([before + 1].to_vec()));
    [rest].into_iter().chain(others).collect()
}

/// Leaves in memory by the first byte of their keys.
struct Parts {
    leaves: Vec<Vec<LeafNode>>,
}

impl Parts {
    fn new() -> Self {
        Self {
            leaves: vec![Vec::new(); PARTS],
        }
    }

    /// Adds the rows of a range, at most so many; returns the last one's key if that was the reason
    /// to end.
    fn read(
        &mut self,
        store: &dyn KvView,
        range: KeyRange,
        rows_max: usize,
        spill: &Spill,
    ) -> Result<Option<Vec<u8>>, StateError> {
        for (row, entry) in store
            .scan(Cf::State, range, Direction::Forward)?
            .enumerate()
        {
            let (key, value) = entry?;
            let leaf = LeafNode {
                key: Hash::of(&key),
                value: Hash::of(&value),
            };
            let part = usize::from(leaf.key.0[0]);
            self.leaves[part].push(leaf);
            if self.leaves[part].len() >= PART_LEAVES {
                spill.write(part, &mut self.leaves[part])?;
            }
            if row + 1 >= rows_max {
                return Ok(Some(key.to_vec()));
            }
        }
        Ok(None)
    }
}

/// The file of the leaves that do not fit into memory.
struct Spill {
    /// None keeps all in memory.
    dir: Option<PathBuf>,
    written: Mutex<Written>,
}

struct Written {
    file: Option<File>,
    chunks: u32,
    /// The chunks of each part.
    by_part: Vec<Vec<u32>>,
}

impl Spill {
    fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            written: Mutex::new(Written {
                file: None,
                chunks: 0,
                by_part: vec![Vec::new(); PARTS],
            }),
        }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().expect("no holder panics")
    }

    /// Moves a chunk of leaves into the file, if there is to be one.
    fn write(&self, part: usize, leaves: &mut Vec<LeafNode>) -> Result<(), StoreError> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        let mut bytes = [0; CHUNK_BYTES];
        let bytes = encode(leaves, &mut bytes);
        let failed = || StoreError::io("write a file for the state tree in", dir);
        let mut written = self.written();
        let file = match written.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(dir).map_err(failed())?,
        };
        let at = offset(written.chunks);
        let wrote = file.write_all_at(bytes, at);
        written.file = Some(file);
        wrote.map_err(failed())?;
        let chunk = written.chunks;
        written.by_part[part].push(chunk);
        written.chunks += 1;
        leaves.clear();
        Ok(())
    }

    /// The leaves of a part in the file.
    fn read(&self, part: usize) -> Result<Vec<LeafNode>, StoreError> {
        let written = self.written();
        let mut leaves = Vec::new();
        let (Some(file), Some(dir)) = (&written.file, &self.dir) else {
            return Ok(leaves);
        };
        let mut bytes = [0; CHUNK_BYTES];
        for chunk in &written.by_part[part] {
            file.read_exact_at(&mut bytes, offset(*chunk))
                .map_err(StoreError::io("read a file for the state tree in", dir))?;
            leaves.extend(decode(&bytes));
        }
        Ok(leaves)
    }
}

fn offset(chunk: u32) -> u64 {
    u64::from(chunk) * CHUNK_BYTES as u64
}
