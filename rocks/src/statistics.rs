use std::fs;
use std::path::Path;

use lamplighter_store::{Cf, StoreError};

use crate::RocksKv;
use crate::error::convert;

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of all files in the store's directory.
    pub disk_bytes: u64,
    /// Bytes of memtables.
    pub memtable_bytes: u64,
    /// Bytes of cached blocks.
    pub block_cache_bytes: u64,
    /// Bytes of table readers outside of the cache.
    pub table_reader_bytes: u64,
    /// Keys, estimated.
    pub keys: u64,
    /// Bytes that compactions still have to rewrite, estimated.
    pub pending_compaction_bytes: u64,
}

impl RocksKv {
    /// The figures of this moment. Lists the directory, so not for every request.
    pub fn statistics(&self) -> Result<Statistics, StoreError> {
        let mut sum = Statistics {
            disk_bytes: disk_bytes(self.dir())?,
            ..Statistics::default()
        };
        for cf in Cf::ALL {
            sum.memtable_bytes += self.figure(cf, "rocksdb.cur-size-all-mem-tables")?;
            sum.table_reader_bytes += self.figure(cf, "rocksdb.estimate-table-readers-mem")?;
            sum.keys += self.figure(cf, "rocksdb.estimate-num-keys")?;
            sum.pending_compaction_bytes +=
                self.figure(cf, "rocksdb.estimate-pending-compaction-bytes")?;
        }
        // The cache is shared, every column family reports all of it.
        sum.block_cache_bytes = self.figure(Cf::State, "rocksdb.block-cache-usage")?;
        Ok(sum)
    }

    /// A property of RocksDB for one column family, such as `rocksdb.stats`; none if there is no
    /// such property.
    pub fn property(&self, cf: Cf, name: &str) -> Result<Option<String>, StoreError> {
        self.database()
            .property_value_cf(self.handle(cf), name)
            .map_err(|error| convert("read a property", self.dir(), error))
    }

    /// Failures of flushes and compactions since the store was opened.
    pub(crate) fn background_errors(&self) -> Result<u64, StoreError> {
        self.figure(Cf::Meta, "rocksdb.background-errors")
    }

    fn figure(&self, cf: Cf, name: &str) -> Result<u64, StoreError> {
        let value = self
            .database()
            .property_int_value_cf(self.handle(cf), name)
            .map_err(|error| convert("read a property", self.dir(), error))?;
        Ok(value.unwrap_or(0))
    }
}

/// Files may come and go while we look.
fn disk_bytes(dir: &Path) -> Result<u64, StoreError> {
    let entries = fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
    let mut sum = 0;
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        match entry.metadata() {
            Ok(metadata) => sum += metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("look at", entry.path())(error)),
        }
    }
    Ok(sum)
}
