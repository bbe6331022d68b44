//! A store in memory whose receipts, of which the feed is made, can become unreadable.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lamplighter_store::{
    Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Scan, StoreError, WriteBatch,
};

pub struct ReceiptsStore {
    kv: MemoryKv,
    reads: Mutex<Vec<Bytes>>,
    fails: AtomicBool,
}

impl ReceiptsStore {
    pub fn new() -> Self {
        Self {
            kv: MemoryKv::new(),
            reads: Mutex::default(),
            fails: AtomicBool::new(false),
        }
    }

    /// How often receipts of a block were read, or could not be.
    pub fn reads(&self) -> usize {
        self.reads.lock().unwrap().len()
    }

    /// The same of one block, without the first `skip` reads of all.
    pub fn reads_of(&self, height: u64, skip: usize) -> usize {
        let reads = self.reads.lock().unwrap();
        let of_block = |key: &&Bytes| key.ends_with(&height.to_be_bytes());
        reads.iter().skip(skip).filter(of_block).count()
    }

    /// Makes receipts unreadable, or readable again.
    pub fn set_unreadable(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }
}

impl KvView for ReceiptsStore {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.kv.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        if cf == Cf::Receipts {
            self.reads.lock().unwrap().push(range.start.clone());
            if self.fails.load(Ordering::SeqCst) {
                return Err(StoreError::io("read", "disk")(io::Error::other("broken")));
            }
        }
        self.kv.scan(cf, range, direction)
    }
}

impl Kv for ReceiptsStore {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        self.kv.write(batch, durability)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.kv.sync()
    }

    fn view(&self) -> Result<Arc<dyn KvView>, StoreError> {
        self.kv.view()
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.kv.checkpoint(dir)
    }

    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError> {
        self.kv.read_checkpoint(dir)
    }
}
