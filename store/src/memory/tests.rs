use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::*;
use crate::Durability::{Synced, Unsynced};

fn put(key: &'static str, value: &'static str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(Cf::State, key, value);
    batch
}

fn get(kv: &MemoryKv, key: &str) -> Option<Bytes> {
    kv.get(Cf::State, key.as_bytes()).unwrap()
}

#[test]
fn passes_the_suite() {
    let opened: Mutex<HashMap<PathBuf, MemoryKv>> = Mutex::default();
    crate::suite::run(|dir: &Path| {
        let mut opened = opened.lock().unwrap();
        let kv = opened.get(dir).map_or_else(MemoryKv::new, MemoryKv::kill);
        opened.insert(dir.to_owned(), kv.clone());
        Arc::new(kv)
    });
}

#[test]
fn a_crash_loses_exactly_the_unsynced_suffix() {
    let kv = MemoryKv::new();
    kv.write(put("a", "1"), Unsynced).unwrap();
    kv.write(put("b", "1"), Synced).unwrap();
    kv.write(put("c", "1"), Unsynced).unwrap();
    kv.write(put("d", "1"), Unsynced).unwrap();
    let found = kv.crash();
    assert!(get(&found, "a").is_some(), "a later sync makes it durable");
    assert!(get(&found, "b").is_some());
    assert!(get(&found, "c").is_none());
    assert!(matches!(kv.get(Cf::State, b"a"), Err(StoreError::Closed)));
    assert!(matches!(
        kv.write(put("e", "1"), Synced),
        Err(StoreError::Closed)
    ));

    let kv = found;
    kv.write(put("c", "2"), Unsynced).unwrap();
    kv.write(put("d", "2"), Unsynced).unwrap();
    let found = kv.crash_keeping(1);
    assert!(get(&found, "c").is_some());
    assert!(get(&found, "d").is_none());
}

#[test]
fn sync_alone_makes_durable() {
    let kv = MemoryKv::new();
    kv.write(put("a", "1"), Unsynced).unwrap();
    kv.sync().unwrap();
    assert!(get(&kv.crash(), "a").is_some());
}

#[test]
fn unsynced_writes_are_bounded_by_writing_back_the_oldest() {
    let kv = MemoryKv::new();
    kv.write(put("first", "1"), Unsynced).unwrap();
    for _ in 0..UNSYNCED_WRITES_MAX {
        kv.write(put("other", "1"), Unsynced).unwrap();
    }
    let found = kv.crash();
    assert!(get(&found, "first").is_some());
    assert!(get(&found, "other").is_none());
}

#[test]
fn planned_faults() {
    let table = [
        (
            "lost once",
            Fault {
                after_writes: 1,
                persisted: false,
                lasting: false,
            },
            "a-c",
        ),
        (
            "persisted",
            Fault {
                after_writes: 1,
                persisted: true,
                lasting: false,
            },
            "abc",
        ),
        (
            "disk broke",
            Fault {
                after_writes: 1,
                persisted: false,
                lasting: true,
            },
            "a--",
        ),
        (
            "broke late",
            Fault {
                after_writes: 1,
                persisted: true,
                lasting: true,
            },
            "ab-",
        ),
    ];
    for (name, fault, expected) in table {
        let kv = MemoryKv::new();
        kv.plan(fault);
        for (at, key) in ["a", "b", "c"].into_iter().enumerate() {
            let written = kv.write(put(key, "1"), Synced);
            let fails = at == 1 || (fault.lasting && at == 2);
            assert_eq!(written.is_err(), fails, "{name}: write of {key}");
        }
        let found = kv.crash();
        let kept: String = ["a", "b", "c"]
            .map(|key| get(&found, key).map_or("-", |_| key))
            .concat();
        assert_eq!(kept, expected, "{name}");
    }
}

#[test]
fn damaged_checkpoints_are_errors() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("checkpoint");
    let kv = MemoryKv::new();
    kv.write(put("a", "some value"), Synced).unwrap();
    kv.checkpoint(&dir).unwrap();
    assert!(get(&MemoryKv::open_checkpoint(&dir).unwrap(), "a").is_some());

    let file = dir.join("memory.kv");
    let whole = std::fs::read(&file).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&file, &whole[..len]).unwrap();
        let error = MemoryKv::open_checkpoint(&dir).err().expect("cut short");
        assert!(error.to_string().contains("memory.kv"), "{error}");
    }
    std::fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    assert!(MemoryKv::open_checkpoint(&dir).is_err());
    assert!(kv.checkpoint(&dir).is_err(), "the directory exists");
}
