#![allow(clippy::mem_forget, reason = "inside the macro of self_cell")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lamplighter_store::{
    Cf, Direction, Durability, KEYS_AT_ONCE, KeyRange, Kv, KvView, Op, SOME_BYTES_MAX, Scan,
    StoreError, WriteBatch,
};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, ReadOptions, Snapshot, WriteOptions};
use self_cell::self_cell;

use crate::Options;
use crate::closed::{Closed, ClosedOnDrop};
use crate::error::convert;
use crate::health::{Failure, Health, LastLoggedError};
use crate::repair::problem;
use crate::scan::{Entries, bounds};
use crate::seal::check::{Problem, check};
use crate::seal::tables;
use crate::seal::writer::{Sealer, Syncs};

struct Database {
    db: DB,
    dir: PathBuf,
    options: Options,
    health: Arc<Health>,
    logged_error: Arc<LastLoggedError>,
    syncs: Arc<Syncs>,
    /// Dropped after the database, and seals what that left.
    sealer: Option<Sealer>,
    /// Last: it notifies when all above is dropped.
    closed: ClosedOnDrop,
}

/// A store in a directory. Clones are handles to the same store; it closes with the last one and
/// the last view.
#[derive(Clone)]
pub struct RocksKv(Arc<Database>);

impl RocksKv {
    /// Opens the store in a directory, creating both where they are missing (but not the parent).
    ///
    /// # Errors
    /// [`StoreError::Locked`] if a process has it open, [`StoreError::Corrupt`] naming the file if
    /// bytes are not what was written.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        if let Err(error) = fs::create_dir(dir)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(StoreError::io("create store directory", dir)(error));
        }
        Self::try_open(dir, options).map_err(StoreError::from)
    }

    pub(crate) fn try_open(dir: &Path, options: Options) -> Result<Self, Problem> {
        check(dir)?;
        if let Some(damage) = tables::check(dir)? {
            return Err(damage.into());
        }
        let logged_error = Arc::default();
        let opened =
            DB::open_cf_descriptors(&options.database(&logged_error), dir, descriptors(&options));
        let mut kv = Self::new(opened, dir, options, logged_error).map_err(|e| problem(dir, e))?;
        let database = Arc::get_mut(&mut kv.0).expect("nobody else has it yet");
        let (syncs, health) = (database.syncs.clone(), database.health.clone());
        database.sealer = Some(Sealer::start(dir, syncs, health)?);
        kv.note_tables()?;
        Ok(kv)
    }

    fn open_read_only(dir: &Path, options: Options) -> Result<Self, StoreError> {
        // RocksDB would make the directory before it finds out that there is nothing in it.
        let current = dir.join("CURRENT");
        fs::metadata(&current).map_err(StoreError::io("find", &current))?;
        let logged_error = Arc::default();
        let mut database = options.database(&logged_error);
        database.create_if_missing(false);
        database.create_missing_column_families(false);
        let families = descriptors(&options);
        Self::new(
            DB::open_cf_descriptors_read_only(&database, dir, families, false),
            dir,
            options,
            logged_error,
        )
    }

    fn new(
        opened: Result<DB, rocksdb::Error>,
        dir: &Path,
        options: Options,
        logged_error: Arc<LastLoggedError>,
    ) -> Result<Self, StoreError> {
        let db = opened.map_err(|error| convert("open the store", dir, error))?;
        Ok(Self(Arc::new(Database {
            db,
            dir: dir.to_owned(),
            options,
            health: Arc::default(),
            logged_error,
            syncs: Arc::default(),
            sealer: None,
            closed: ClosedOnDrop::default(),
        })))
    }

    /// Waits for the end of this store, which comes with its last handle and view.
    pub fn closed(&self) -> Closed {
        self.0.closed.0.clone()
    }

    /// Why the store takes no more writes, if so.
    pub fn failure(&self) -> Option<Failure> {
        self.0.health.failure().cloned()
    }

    /// Calls the listener with the first failure, on the thread that meets it; one listener at
    /// most.
    pub fn when_failed(&self, listener: impl Fn(&Failure) + Send + Sync + 'static) {
        self.0.health.listen(Box::new(listener));
    }

    /// Checks whether a flush or a compaction failed in the background. It is a failure like any
    /// other, but no caller waits for it, so this has to be called regularly.
    pub fn check_background(&self) -> Result<(), StoreError> {
        if self.background_errors()? == 0 {
            return self.0.health.check();
        }
        let logged_error = self.0.logged_error.last();
        let error = if logged_error.contains("Corruption:") {
            StoreError::Corrupt {
                path: self.dir().to_owned(),
                what: logged_error,
                source: None,
            }
        } else {
            StoreError::Backend {
                operation: format!("flush or compact in {}", self.dir().display()),
                source: logged_error.into(),
            }
        };
        Err(self.0.health.broke(self.dir(), error))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    pub(crate) fn database(&self) -> &DB {
        &self.0.db
    }

    pub(crate) fn health(&self) -> &Health {
        &self.0.health
    }

    pub(crate) fn handle(&self, cf: Cf) -> &ColumnFamily {
        self.0.handle(cf)
    }
}

pub(crate) fn descriptors(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    options
        .families()
        .map(|(cf, options)| ColumnFamilyDescriptor::new(cf.name(), options))
        .collect()
}

fn is_endless(op: &Op) -> bool {
    matches!(op, Op::DeleteRange { range, .. } if range.end.is_none())
}

impl Database {
    fn handle(&self, cf: Cf) -> &ColumnFamily {
        self.db
            .cf_handle(cf.name())
            .expect("every column family is opened with the store")
    }

    fn get(&self, cf: Cf, key: &[u8], options: &ReadOptions) -> Result<Option<Bytes>, StoreError> {
        self.db
            .get_cf_opt(self.handle(cf), key, options)
            .map(|value| value.map(Bytes::from))
            .map_err(|error| {
                self.health
                    .read(&self.dir, convert("read", &self.dir, error))
            })
    }

    fn get_some(
        &self,
        cf: Cf,
        keys: &[Vec<u8>],
        options: &ReadOptions,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut some = Vec::new();
        let mut bytes = 0;
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let found = self
                .db
                .batched_multi_get_cf_opt(&self.handle(cf), keys, false, options);
            for found in found {
                let found = found.map_err(|error| {
                    let error = convert("read", &self.dir, error);
                    self.health.read(&self.dir, error)
                })?;
                bytes += found.as_ref().map_or(0, |value| value.len());
                some.push(found.map(|value| Bytes::copy_from_slice(&value)));
            }
            if bytes >= SOME_BYTES_MAX {
                break;
            }
        }
        Ok(some)
    }

    fn scan(
        &self,
        cf: Cf,
        direction: Direction,
        options: ReadOptions,
    ) -> Result<Scan<'_>, StoreError> {
        let iterator = self.db.raw_iterator_cf_opt(self.handle(cf), options);
        Ok(Box::new(Entries::new(
            iterator,
            direction,
            self.dir.clone(),
            self.health.clone(),
        )))
    }

    fn encode(&self, batch: WriteBatch) -> Result<rocksdb::WriteBatch, StoreError> {
        let mut out = rocksdb::WriteBatch::default();
        // Looked up once, not for each change.
        let handles = Cf::ALL.map(|cf| self.handle(cf));
        // The largest key that earlier changes of the batch put, for ranges without an end.
        let mut largest: [Option<Bytes>; Cf::ALL.len()] = Default::default();
        let has_endless = batch.ops().iter().any(is_endless);
        for op in batch.into_ops() {
            match op {
                Op::Put { cf, key, value } => {
                    out.put_cf(handles[cf as usize], &key, value);
                    if has_endless {
                        let largest = &mut largest[cf as usize];
                        *largest = largest.take().max(Some(key));
                    }
                }
                Op::Delete { cf, key } => out.delete_cf(handles[cf as usize], key),
                Op::DeleteRange { cf, range } => {
                    let end = match range.end {
                        Some(end) => Some(end),
                        None => self.end(cf, largest[cf as usize].as_ref())?,
                    };
                    if let Some(end) = end.filter(|end| *end > range.start) {
                        out.delete_range_cf(handles[cf as usize], range.start, end);
                    }
                }
            }
        }
        Ok(out)
    }

    /// The first key after all others: RocksDB deletes no ranges without an end.
    fn end(&self, cf: Cf, put: Option<&Bytes>) -> Result<Option<Bytes>, StoreError> {
        let mut stored = self.scan(cf, Direction::Backward, bounds(KeyRange::all()))?;
        let stored = stored.next().transpose()?.map(|(key, _)| key);
        let last = stored.max(put.cloned());
        Ok(last.map(|last| Bytes::from([&last[..], &[0]].concat())))
    }
}

impl KvView for RocksKv {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(cf, key, &ReadOptions::default())
    }

    fn get_some(&self, cf: Cf, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.0.get_some(cf, keys, &ReadOptions::default())
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        if range.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        self.0.scan(cf, direction, bounds(range))
    }
}

impl Kv for RocksKv {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        let health = &self.0.health;
        health.check()?;
        let batch = self.0.encode(batch)?;
        self.database()
            .write_opt(batch, &WriteOptions::default())
            .map_err(|error| health.broke(self.dir(), convert("write", self.dir(), error)))?;
        match durability {
            Durability::Synced => self.sync(),
            Durability::Unsynced => Ok(()),
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        let health = &self.0.health;
        health.check()?;
        let number = self.0.syncs.begin();
        self.database().flush_wal(true).map_err(|error| {
            let error = convert("sync the write-ahead log", self.dir(), error);
            health.broke(self.dir(), error)
        })?;
        self.0.syncs.done(number);
        Ok(())
    }

    fn view(&self) -> Result<Arc<dyn KvView>, StoreError> {
        Ok(Arc::new(RocksView(Pinned::new(
            self.0.clone(),
            |database| database.db.snapshot(),
        ))))
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        let failed = |error| convert("make a checkpoint", dir, error);
        let checkpoint = Checkpoint::new(self.database()).map_err(failed)?;
        checkpoint.create_checkpoint(dir).map_err(failed)
    }

    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError> {
        Ok(Arc::new(Self::open_read_only(dir, self.0.options.clone())?))
    }
}

self_cell!(
    /// A snapshot together with the database that it borrows.
    struct Pinned {
        owner: Arc<Database>,

        #[covariant]
        dependent: Snapshot,
    }
);

struct RocksView(Pinned);

impl RocksView {
    /// The options of a read that sees the snapshot.
    fn at(&self, mut options: ReadOptions) -> ReadOptions {
        options.set_snapshot(self.0.borrow_dependent());
        options
    }
}

impl KvView for RocksView {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0
            .borrow_owner()
            .get(cf, key, &self.at(ReadOptions::default()))
    }

    fn get_some(&self, cf: Cf, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let options = self.at(ReadOptions::default());
        self.0.borrow_owner().get_some(cf, keys, &options)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        if range.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        self.0
            .borrow_owner()
            .scan(cf, direction, self.at(bounds(range)))
    }
}
