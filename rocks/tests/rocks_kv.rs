//! RocksDB passes the suite of every store, and reports what is wrong with a damaged directory.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lamplighter_rocks::{Options, RocksKv};
use lamplighter_store::{
    Cf, Direction, Durability, KeyRange, Kv, KvView, StoreError, WriteBatch, suite,
};

fn open(dir: &Path) -> Result<RocksKv, StoreError> {
    RocksKv::open(dir, Options::default())
}

fn fill(kv: &RocksKv) {
    for round in 0..20u32 {
        let mut batch = WriteBatch::new();
        for at in 0..100u32 {
            let key = [round.to_be_bytes(), at.to_be_bytes()].concat();
            batch.put(Cf::State, key, vec![round as u8; 512]);
        }
        kv.write(batch, Durability::Unsynced).unwrap();
    }
    kv.sync().unwrap();
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

fn flip(path: &Path, from_end: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len().saturating_sub(from_end);
    bytes[at] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

/// The whole chain of causes in one line.
fn explain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[test]
fn passes_the_suite() {
    suite::run(|dir| Arc::new(open(dir).unwrap()));
}

#[test]
fn a_second_opening_is_refused_as_locked() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    let first = open(&dir).unwrap();
    let error = open(&dir).err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    // A view keeps the store open, a clone too.
    let view = first.view().unwrap();
    drop(first);
    assert!(open(&dir).is_err());
    drop(view);
    open(&dir).unwrap();
}

#[test]
fn a_missing_parent_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    let error = open(&parent.path().join("no/such")).err().unwrap();
    assert!(explain(&error).contains("no/such"), "{error:?}");
}

#[test]
fn a_damaged_table_file_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    let kv = open(&dir).unwrap();
    fill(&kv);
    // A checkpoint flushes the memtables into table files.
    let image = parent.path().join("image");
    kv.checkpoint(&image).unwrap();
    let tables = files(&image, ".sst");
    assert!(!tables.is_empty());
    for table in &tables {
        // The image shares the files of the store.
        let bytes = fs::read(table).unwrap();
        fs::remove_file(table).unwrap();
        fs::write(table, bytes).unwrap();
        let len = fs::metadata(table).unwrap().len() as usize;
        flip(table, len / 2);
    }
    let read = kv.read_checkpoint(&image).and_then(|view| {
        let scan = view.scan(Cf::State, KeyRange::all(), Direction::Forward)?;
        scan.collect::<Result<Vec<_>, _>>()
    });
    let Err(error) = read else {
        panic!("damage is noticed")
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let text = explain(&error);
    assert!(text.contains(".sst"), "{text}");
    let whole = kv
        .scan(Cf::State, KeyRange::all(), Direction::Forward)
        .unwrap();
    assert_eq!(
        whole.collect::<Result<Vec<_>, _>>().unwrap().len(),
        2000,
        "the store itself is unharmed"
    );
}

#[test]
fn a_damaged_manifest_and_a_missing_file_are_named() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    let kv = open(&dir).unwrap();
    fill(&kv);
    let image = parent.path().join("image");
    kv.checkpoint(&image).unwrap();
    drop(kv);

    let manifest = dir.join(fs::read_to_string(dir.join("CURRENT")).unwrap().trim());
    let whole = fs::read(&manifest).unwrap();
    flip(&manifest, whole.len() / 2);
    let error = open(&dir).err().expect("damage is noticed");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    fs::write(&manifest, whole).unwrap();
    open(&dir).unwrap();

    for table in files(&image, ".sst") {
        fs::remove_file(table).unwrap();
    }
    let error = open(&image).err().expect("the missing file is noticed");
    assert!(explain(&error).contains(".sst"), "{error:?}");
    fs::write(image.join("CURRENT"), b"garbage").unwrap();
    let error = open(&image).err().expect("damage is noticed");
    assert!(explain(&error).contains("CURRENT"), "{error:?}");
}

#[test]
fn a_write_ahead_log_cut_short_loses_only_its_end() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("kv");
    let kv = open(&dir).unwrap();
    for key in ["a", "b"] {
        let mut batch = WriteBatch::new();
        batch.put(Cf::State, key, vec![1; 1000]);
        batch.put(Cf::Chain, "applied", key);
        kv.write(batch, Durability::Synced).unwrap();
    }
    // The image of a machine that lost power: the log as it is, cut in its last record.
    let crashed = parent.path().join("crashed");
    fs::create_dir(&crashed).unwrap();
    for path in files(&dir, "") {
        fs::copy(&path, crashed.join(path.file_name().unwrap())).unwrap();
    }
    let logs = files(&crashed, ".log");
    let log = logs
        .iter()
        .max_by_key(|log| fs::metadata(log).unwrap().len())
        .unwrap();
    let bytes = fs::read(log).unwrap();
    fs::write(log, &bytes[..bytes.len() - 10]).unwrap();
    let kv = open(&crashed).unwrap();
    assert_eq!(
        kv.get(Cf::Chain, b"applied").unwrap().as_deref(),
        Some(&b"a"[..])
    );
    assert!(kv.get(Cf::State, b"a").unwrap().is_some());
    assert!(
        kv.get(Cf::State, b"b").unwrap().is_none(),
        "a batch is there as a whole or not"
    );
}

#[test]
fn statistics_and_properties() {
    let parent = tempfile::tempdir().unwrap();
    let kv = open(&parent.path().join("kv")).unwrap();
    fill(&kv);
    let statistics = kv.statistics().unwrap();
    assert!(statistics.disk_bytes > 1_000_000, "{statistics:?}");
    assert!(statistics.memtable_bytes > 1_000_000, "{statistics:?}");
    assert!(statistics.keys >= 2000, "{statistics:?}");
    assert!(kv.property(Cf::State, "rocksdb.stats").unwrap().is_some());
    assert!(kv.property(Cf::State, "no.such").unwrap().is_none());
}
