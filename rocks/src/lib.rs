//! [`Kv`](lamplighter_store::Kv) on RocksDB.
//!
//! # Durability
//!
//! One write-ahead log serves all column families and is never switched off, so memtables need no
//! atomic flush: after a crash the log is replayed up to the first record that is not whole, and a
//! batch is one record. [`Kv::sync`](lamplighter_store::Kv::sync) syncs the log without holding up
//! unsynced writes that come meanwhile, whereas a synced write makes the writes behind it wait.
//!
//! # Failures
//!
//! After a failed write or sync the content of the disk is unknown: the kernel may have dropped the
//! pages and marked them clean, so a second fsync succeeds without having written them (Rebello et
//! al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020). The store therefore
//! takes no write after the first failure, RocksDB's attempts to resume are switched off, and the
//! owner of the store is notified ([`RocksKv::when_failed`]) and closes it. The same holds for
//! damaged bytes that a read comes across.
//!
//! # Memory
//!
//! Memtables, block cache with indexes and filters, and open files are bounded by the constants in
//! [`Options`]; an idle store takes a few megabytes.

mod closed;
mod damage;
mod error;
mod health;
mod kv;
mod options;
mod repair;
mod scan;
mod scrub;
mod seal;
mod statistics;

pub use closed::Closed;
pub use damage::Damage;
pub use health::Failure;
pub use kv::RocksKv;
pub use options::Options;
pub use scrub::Scrub;
pub use statistics::Statistics;
