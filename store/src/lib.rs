//! The store under a validator: ordered keys in column families, atomic batches, consistent views.
//!
//! [`Kv`] is what the layers above use, always as `Arc<dyn Kv>`. [`MemoryKv`] is its in-memory
//! twin that can crash, lose what was not synced and fail on demand; the RocksDB one is the crate
//! `lamplighter-rocks`. Both pass the test suite in `suite` (cargo feature `suite`).
//!
//! # Durability
//!
//! There is one write-ahead log for all column families. A write is atomic over all of them. An
//! *unsynced* write survives the end of the process and may be lost with the power; a *synced* one
//! survives both, and makes every earlier write durable too. What is lost is always a suffix of
//! the order of writing, never something in the middle.

mod batch;
mod error;
mod kv;
mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

pub use batch::{Op, WriteBatch};
pub use error::StoreError;
pub use kv::{
    Cf, Direction, Durability, KEYS_AT_ONCE, KeyRange, Kv, KvView, SOME_BYTES_MAX, Scan, get_each,
};
pub use memory::{Fault, MemoryKv};
