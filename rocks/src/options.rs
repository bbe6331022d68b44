use std::sync::Arc;

use lamplighter_store::Cf;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, InfoLogger,
    LogLevel,
};

use crate::health::LastLoggedError;

const MIB: usize = 1 << 20;

/// After an error in the background RocksDB must not try again as if nothing had been: what a
/// failed fsync lost stays lost.
const NO_RESUME: &str = "max_bgerror_resume_count=0";

/// Blocks of table files in memory, with their indexes and filters.
const BLOCK_CACHE_BYTES: usize = 24 * MIB;
/// All memtables together; the largest is flushed when they exceed it. Two batches of the largest
/// size, their log entries and what they changed fit several times.
const MEMTABLES_BYTES: usize = 32 * MIB;
/// One memtable. The log's fills fastest, and a larger one only delays the flush.
const MEMTABLE_BYTES: usize = 8 * MIB;
/// Memtables per column family, the one that is being flushed included.
const MEMTABLE_COUNT: i32 = 3;
/// Write-ahead log that a restart has to replay at most, before the oldest memtable is flushed.
const WAL_BYTES: u64 = 96 << 20;
/// Table files kept open; each holds a file descriptor and some kilobytes.
const OPEN_FILES: i32 = 256;
/// Threads for flushes and compactions: the machines of a validator have few cores.
const BACKGROUND_JOBS: i32 = 2;
/// Dirty pages of table files are written back in portions of this size, so that a sync of the
/// log does not have to wait for a whole compaction's output.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// Larger blocks compress better, smaller ones make point reads cheaper.
const BLOCK_BYTES: usize = 8 << 10;
/// Size of the blocks that indexes and filters are cut into. A whole table has a filter of 2 MiB:
/// with a million devices every lookup would push some out of the cache and read them again.
const METADATA_BLOCK_BYTES: usize = 4 << 10;
/// About one per cent of the lookups of a missing key touch the disk.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// Part of a memtable that its Bloom filter takes: enough for the keys that fit the memtable.
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;

/// The tunable options; the default suits a validator that has to stay below 150 MiB when idle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of table blocks kept in memory.
    pub block_cache_bytes: usize,
    /// Bytes of all memtables together.
    pub memtables_bytes: usize,
    /// Table files kept open.
    pub open_files: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_cache_bytes: BLOCK_CACHE_BYTES,
            memtables_bytes: MEMTABLES_BYTES,
            open_files: OPEN_FILES,
        }
    }
}

impl Options {
    pub(crate) fn database(&self, logged_error: &Arc<LastLoggedError>) -> rocksdb::Options {
        let mut options = rocksdb::Options::default()
            .get_options_from_string(NO_RESUME)
            .expect("the options of this version of RocksDB");
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_db_write_buffer_size(self.memtables_bytes);
        options.set_max_total_wal_size(WAL_BYTES);
        options.set_max_open_files(self.open_files);
        options.set_max_background_jobs(BACKGROUND_JOBS);
        // One thread applies blocks and one appends to the log: a memtable for one writer at a time
        // needs no atomic operations, and finds the place of the next key from that of the last.
        options.set_allow_concurrent_memtable_write(false);
        options.set_bytes_per_sync(BYTES_PER_SYNC);
        options.set_wal_bytes_per_sync(BYTES_PER_SYNC);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_paranoid_checks(true);
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        // A log that the manifest knows of and that is missing or short is damage, not the end.
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_info_logger(logger(logged_error.clone()));
        options
    }

    /// The options of every column family, in the order of [`Cf::ALL`]; they share one cache.
    pub(crate) fn families(&self) -> impl Iterator<Item = (Cf, rocksdb::Options)> {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        Cf::ALL.into_iter().map(move |cf| (cf, family(cf, &cache)))
    }
}

fn family(cf: Cf, cache: &Cache) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK_BYTES);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_metadata_block_size(METADATA_BLOCK_BYTES);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_format_version(5);
    // The log is only read by index, and what is asked for is there.
    if cf != Cf::Log {
        table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        table.set_partition_filters(true);
    }
    let mut options = rocksdb::Options::default();
    if cf == Cf::State {
        // Most records that are read were written long ago, or never.
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
        options.set_memtable_whole_key_filtering(true);
    }
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(MEMTABLE_COUNT);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

/// Forwards RocksDB's log to ours; it writes no log files.
fn logger(logged_error: Arc<LastLoggedError>) -> InfoLogger {
    InfoLogger::new_callback_logger(LogLevel::Warn, move |level, message| {
        logged_error.record(message);
        match level {
            LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{message}"),
            LogLevel::Warn => tracing::warn!(target: "rocksdb", "{message}"),
            _ => tracing::debug!(target: "rocksdb", "{message}"),
        }
    })
}
