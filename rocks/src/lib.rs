//! [`Kv`](lamplighter_store::Kv) on RocksDB.
//!
//! # Durability
//!
//! One write-ahead log serves all column families and is never switched off, so memtables need no
//! atomic flush: after a crash the log is replayed up to the first record that is not whole, and a
//! batch is one record. [`Kv::sync`](lamplighter_store::Kv::sync) syncs the log without holding up
//! unsynced writes that come meanwhile, whereas a synced write makes the writes behind it wait.
//!
//! # Memory
//!
//! Memtables, block cache with indexes and filters, and open files are bounded by the constants in
//! [`Options`]; an idle store takes a few megabytes.

mod error;
mod kv;
mod options;
mod scan;
mod statistics;

pub use kv::RocksKv;
pub use options::Options;
pub use statistics::Statistics;
