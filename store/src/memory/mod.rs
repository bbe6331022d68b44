//! The in-memory twin of the store on disk, for tests and simulations.
//!
//! Its tables are persistent maps, so that a view, and the state to which a crash falls back, cost
//! nothing to keep.

mod checkpoint;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rpds::RedBlackTreeMapSync;

use crate::{Cf, Direction, Durability, KeyRange, Kv, KvView, Op, Scan, StoreError, WriteBatch};

/// Unsynced writes that are remembered one by one. When there are more, the oldest becomes durable,
/// as an operating system writes back old pages on its own; this bounds the memory.
const UNSYNCED_WRITES_MAX: usize = 4096;

type Table = RedBlackTreeMapSync<Bytes, Bytes>;

/// The whole content at one moment. A clone is cheap and shares everything.
#[derive(Clone)]
struct Tables(Vec<Table>);

impl Tables {
    fn new() -> Self {
        Self(vec![Table::new_sync(); Cf::ALL.len()])
    }

    fn table(&self, cf: Cf) -> &Table {
        &self.0[cf as usize]
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Put { cf, key, value } => self.0[cf as usize].insert_mut(key, value),
            Op::Delete { cf, key } => {
                self.0[cf as usize].remove_mut(&key);
            }
            Op::DeleteRange { cf, range } => self.delete_range(cf, &range),
        }
    }

    fn delete_range(&mut self, cf: Cf, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        let table = &mut self.0[cf as usize];
        let keys: Vec<Bytes> = table
            .range(bounds(range))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            table.remove_mut(&key);
        }
    }
}

fn bounds(range: &KeyRange) -> (Bound<Bytes>, Bound<Bytes>) {
    let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(range.start.clone()), end)
}

impl KvView for Tables {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.table(cf).get(key).cloned())
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        Ok(Box::new(TableScan {
            table: self.table(cf).clone(),
            range,
            direction,
        }))
    }
}

/// A scan that owns what it reads, so that it needs no lock.
struct TableScan {
    table: Table,
    range: KeyRange,
    direction: Direction,
}

impl Iterator for TableScan {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.range.is_empty() {
            return None;
        }
        let mut rest = self.table.range(bounds(&self.range));
        let (key, value) = match self.direction {
            Direction::Forward => rest.next()?,
            Direction::Backward => rest.next_back()?,
        };
        let entry = (key.clone(), value.clone());
        match self.direction {
            Direction::Forward => self.range.start = successor(&entry.0),
            Direction::Backward => self.range.end = Some(entry.0.clone()),
        }
        Some(Ok(entry))
    }
}

/// The smallest key after this one.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

/// A planned failure: the write that fails, and its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Writes (and syncs) that still succeed before the one that fails.
    pub after_writes: u64,
    /// Whether the failed write is stored nevertheless, as after a timeout of the disk.
    pub persisted: bool,
    /// Whether all later writes fail too (and are not stored), as on a broken disk.
    pub lasting: bool,
}

struct MemoryDisk {
    current: Tables,
    durable: Tables,
    /// The content after each write since the last sync, oldest first.
    unsynced: VecDeque<Tables>,
    faults: Vec<Fault>,
    broken: bool,
    crashed: bool,
    writes: u64,
    syncs: u64,
}

impl MemoryDisk {
    fn new(tables: Tables) -> Self {
        Self {
            current: tables.clone(),
            durable: tables,
            unsynced: VecDeque::new(),
            faults: Vec::new(),
            broken: false,
            crashed: false,
            writes: 0,
            syncs: 0,
        }
    }

    /// Whether the next write fails, and if so whether it is kept.
    fn next_fault(&mut self) -> Option<Fault> {
        if self.broken {
            return Some(Fault {
                after_writes: 0,
                persisted: false,
                lasting: true,
            });
        }
        let due = self.faults.iter().position(|fault| fault.after_writes == 0);
        for fault in &mut self.faults {
            fault.after_writes = fault.after_writes.saturating_sub(1);
        }
        let fault = due.map(|at| self.faults.remove(at));
        self.broken = fault.is_some_and(|fault| fault.lasting);
        fault
    }

    fn write(&mut self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        if self.crashed {
            return Err(StoreError::Closed);
        }
        let fault = self.next_fault();
        if fault.is_none_or(|fault| fault.persisted) {
            self.commit(batch, durability);
        }
        fault.map_or(Ok(()), |_| Err(StoreError::Injected))
    }

    fn commit(&mut self, batch: WriteBatch, durability: Durability) {
        self.writes += 1;
        for op in batch.into_ops() {
            self.current.apply(op);
        }
        match durability {
            Durability::Synced => {
                self.syncs += 1;
                self.durable = self.current.clone();
                self.unsynced.clear();
            }
            Durability::Unsynced => {
                self.unsynced.push_back(self.current.clone());
                if self.unsynced.len() > UNSYNCED_WRITES_MAX
                    && let Some(oldest) = self.unsynced.pop_front()
                {
                    self.durable = oldest;
                }
            }
        }
    }
}

/// A store in memory that can lose its power. Clones are handles to the same store.
#[derive(Clone)]
pub struct MemoryKv(Arc<Mutex<MemoryDisk>>);

impl Default for MemoryKv {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryKv {
    pub fn new() -> Self {
        Self::with(Tables::new())
    }

    fn with(tables: Tables) -> Self {
        Self(Arc::new(Mutex::new(MemoryDisk::new(tables))))
    }

    /// A store with the content that [`Kv::checkpoint`] wrote into the directory.
    pub fn open_checkpoint(dir: &Path) -> Result<Self, StoreError> {
        checkpoint::read(dir).map(Self::with)
    }

    /// Cuts the power: everything unsynced is lost. Every handle to this store fails from now on
    /// with [`StoreError::Closed`]. Returns the store as the next process finds it.
    pub fn crash(&self) -> MemoryKv {
        self.crash_keeping(0)
    }

    /// Power loss after the operating system wrote back the first `kept` of the unsynced writes.
    pub fn crash_keeping(&self, kept: usize) -> MemoryKv {
        let mut disk = self.disk();
        disk.crashed = true;
        let kept = kept.min(disk.unsynced.len());
        let last = kept.checked_sub(1).and_then(|last| disk.unsynced.get(last));
        Self::with(last.unwrap_or(&disk.durable).clone())
    }

    /// Kills the process while the machine keeps running: nothing is lost.
    pub fn kill(&self) -> MemoryKv {
        self.crash_keeping(usize::MAX)
    }

    /// The content that a crash at this moment would leave at least.
    pub fn durable(&self) -> Arc<dyn KvView> {
        Arc::new(self.disk().durable.clone())
    }

    /// Plans a failure. Several may be planned.
    pub fn plan(&self, fault: Fault) {
        self.disk().faults.push(fault);
    }

    /// The number of writes that took effect since this store was opened.
    pub fn writes(&self) -> u64 {
        self.disk().writes
    }

    /// The number of synced writes.
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    fn disk(&self) -> MutexGuard<'_, MemoryDisk> {
        self.0
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn tables(&self) -> Result<Tables, StoreError> {
        let disk = self.disk();
        if disk.crashed {
            Err(StoreError::Closed)
        } else {
            Ok(disk.current.clone())
        }
    }
}

impl KvView for MemoryKv {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.tables()?.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        let table = self.tables()?.table(cf).clone();
        Ok(Box::new(TableScan {
            table,
            range,
            direction,
        }))
    }
}

impl Kv for MemoryKv {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        self.disk().write(batch, durability)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.disk().write(WriteBatch::new(), Durability::Synced)
    }

    fn view(&self) -> Result<Arc<dyn KvView>, StoreError> {
        Ok(Arc::new(self.tables()?))
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        checkpoint::write(&self.tables()?, dir)
    }

    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError> {
        Ok(Arc::new(checkpoint::read(dir)?))
    }
}
