//! openraft's own suite passes with our log store on RocksDB.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

use std::sync::Arc;

use lamplighter_consensus::suite;
use lamplighter_rocks::{Options, RocksKv};

#[test]
fn openraft_is_content_with_our_log_on_rocksdb() {
    suite::run(|dir| Arc::new(RocksKv::open(&dir.path().join("kv"), Options::default()).unwrap()));
}
