use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lamplighter_store::{Cf, Direction, KeyRange, KvView, Scan, StoreError};

use crate::Changes;

/// Bytes counted for an entry beside its key and value: those of the map and of the two buffers.
const ENTRY_BYTES: usize = 128;

/// A key with its record, `None` where there is none.
type Records = HashMap<Vec<u8>, Option<Bytes>>;

/// The newest state with the records that were read or written lately in memory: those of an
/// account, a key or a device that sends are wanted again and again.
///
/// The one that writes the state hands over each block's changes after it has written them
/// ([`update`](Self::update)), and makes the cache forget all when the store may have other records
/// ([`clear`](Self::clear)). Anybody may read meanwhile, and sees the state before or after.
pub struct RecordCache {
    store: Arc<dyn KvView>,
    records: Mutex<Generations>,
}

/// Two generations of records. What is used is in the younger one, or comes into it; when that has
/// half of the bytes it becomes the older one, and what was not used since is dropped.
struct Generations {
    young: Records,
    old: Records,
    young_bytes: usize,
    bytes_max: usize,
    /// Counts updates: a record that was read from the store before one may be an older one.
    updates: u64,
}

impl Generations {
    fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(record) = self.young.get(key) {
            return Some(record.clone());
        }
        let (key, record) = self.old.remove_entry(key)?;
        self.put(key, record.clone());
        Some(record)
    }

    fn put(&mut self, key: Vec<u8>, record: Option<Bytes>) {
        let size = |record: &Option<Bytes>| record.as_ref().map_or(0, Bytes::len);
        let (bytes, key_bytes) = (size(&record), key.len() + ENTRY_BYTES);
        self.young_bytes += match self.young.insert(key, record) {
            Some(before) => bytes.saturating_sub(size(&before)),
            None => key_bytes + bytes,
        };
        if self.young_bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
    }
}

impl RecordCache {
    /// A cache of about so many bytes over a store.
    pub fn new(store: Arc<dyn KvView>, bytes_max: usize) -> Self {
        Self {
            store,
            records: Mutex::new(Generations {
                young: Records::new(),
                old: Records::new(),
                young_bytes: 0,
                bytes_max,
                updates: 0,
            }),
        }
    }

    /// Takes over what was written to the store.
    pub fn update(&self, changes: &Changes) {
        let mut records = self.records();
        records.updates += 1;
        for (key, record) in &changes.writes {
            // An older record must not come back when the younger generation is dropped.
            records.old.remove(key);
            records.put(key.clone(), record.clone());
        }
    }

    /// Forgets all records: the store may have others.
    pub fn clear(&self) {
        let mut records = self.records();
        records.updates += 1;
        records.clear();
    }

    fn records(&self) -> MutexGuard<'_, Generations> {
        self.records
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }
}

impl KvView for RecordCache {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if cf != Cf::State {
            return self.store.get(cf, key);
        }
        let updates = {
            let mut records = self.records();
            if let Some(record) = records.get(key) {
                return Ok(record);
            }
            records.updates
        };
        let record = self.store.get(cf, key)?;
        let mut records = self.records();
        if records.updates == updates {
            records.put(key.to_vec(), record.clone());
        }
        Ok(record)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        self.store.scan(cf, range, direction)
    }
}
