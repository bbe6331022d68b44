//! The cache of records answers as the store does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use lamplighter_state::{Changes, RecordCache, View, tables};
use lamplighter_store::{
    Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Scan, StoreError, WriteBatch,
};
use proptest::prelude::*;

/// A store that counts how often records are read from it.
struct CountingStore {
    kv: MemoryKv,
    reads: AtomicU64,
}

impl KvView for CountingStore {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.kv.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        self.kv.scan(cf, range, direction)
    }
}

fn cached(bytes_max: usize) -> (MemoryKv, Arc<CountingStore>, RecordCache) {
    let kv = MemoryKv::new();
    let store = Arc::new(CountingStore {
        kv: kv.clone(),
        reads: AtomicU64::new(0),
    });
    let cache = RecordCache::new(store.clone(), bytes_max);
    (kv, store, cache)
}

fn changes(writes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Changes {
    let stored = |(key, value): (Vec<u8>, Option<Vec<u8>>)| (key, value.map(Bytes::from));
    Changes {
        writes: writes.into_iter().map(stored).collect(),
        events: Vec::new(),
    }
}

fn write(kv: &MemoryKv, changes: &Changes) {
    let mut batch = WriteBatch::new();
    tables::put_changes(&mut batch, changes);
    kv.write(batch, Durability::Unsynced).unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Read(u8),
    Write(BTreeMap<u8, Option<u8>>),
    /// The store gets other records, as by an image.
    Replace(BTreeMap<u8, Option<u8>>),
}

fn step() -> impl Strategy<Value = Step> {
    let writes = || prop::collection::btree_map(0u8..24, any::<Option<u8>>(), 0..6);
    prop_oneof![
        6 => (0u8..24).prop_map(Step::Read),
        3 => writes().prop_map(Step::Write),
        1 => writes().prop_map(Step::Replace),
    ]
}

/// Records of different sizes, so that some pass the limit of the cache by themselves.
fn record(of: u8) -> Vec<u8> {
    vec![of; usize::from(of)]
}

fn changes_of(writes: BTreeMap<u8, Option<u8>>) -> Changes {
    changes(
        writes
            .into_iter()
            .map(|(key, of)| (vec![key], of.map(record))),
    )
}

proptest! {
    /// Whatever is read, written and dropped, and however little fits.
    #[test]
    fn a_cached_record_is_the_stored_one(
        steps in prop::collection::vec(step(), 1..200),
        bytes_max in 0usize..4_000,
    ) {
        let (kv, _, cache) = cached(bytes_max);
        for step in steps {
            match step {
                Step::Read(key) => {
                    let stored = kv.get(Cf::State, &[key]).unwrap();
                    prop_assert_eq!(cache.get(Cf::State, &[key]).unwrap(), stored);
                }
                Step::Write(writes) => {
                    let changes = changes_of(writes);
                    write(&kv, &changes);
                    cache.update(&changes);
                }
                Step::Replace(writes) => {
                    write(&kv, &changes_of(writes));
                    cache.clear();
                }
            }
        }
        for key in 0..24 {
            let stored = kv.get(Cf::State, &[key]).unwrap();
            prop_assert_eq!(cache.get(Cf::State, &[key]).unwrap(), stored);
        }
    }
}

#[test]
fn what_was_read_or_written_is_not_read_again() {
    let (kv, store, cache) = cached(1 << 20);
    let read = || store.reads.load(Ordering::Relaxed);
    let written = changes([(b"a".to_vec(), Some(b"1".to_vec())), (b"b".to_vec(), None)]);
    write(&kv, &written);
    cache.update(&written);
    assert_eq!(cache.get(Cf::State, b"a").unwrap(), Some(Bytes::from("1")));
    assert_eq!(cache.get(Cf::State, b"b").unwrap(), None);
    assert_eq!(read(), 0);
    // A record that is missing is known to be missing.
    assert_eq!(cache.get(Cf::State, b"c").unwrap(), None);
    assert_eq!(cache.get(Cf::State, b"c").unwrap(), None);
    assert_eq!(read(), 1);
}

/// Its memory is bounded, and what is in use stays while others come and go.
#[test]
fn a_record_in_use_outlives_those_that_are_not() {
    let (kv, store, cache) = cached(64 << 10);
    let key = |n: u32| n.to_be_bytes().to_vec();
    let all = changes((0..10_000).map(|n| (key(n), Some(vec![7; 100]))));
    write(&kv, &all);
    for n in 1..10_000 {
        cache.get(Cf::State, &key(0)).unwrap();
        cache.get(Cf::State, &key(n)).unwrap();
    }
    assert_eq!(store.reads.load(Ordering::Relaxed), 10_000);
    // The first of the others was dropped long ago.
    cache.get(Cf::State, &key(1)).unwrap();
    assert_eq!(store.reads.load(Ordering::Relaxed), 10_001);
}

/// A store that gets a newer record while the older one is on its way to the reader.
struct Racing {
    kv: MemoryKv,
    cache: OnceLock<Weak<RecordCache>>,
}

impl KvView for Racing {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let older = self.kv.get(cf, key)?;
        let newer = changes([(key.to_vec(), Some(b"newer".to_vec()))]);
        write(&self.kv, &newer);
        let cache = self.cache.get().unwrap().upgrade().unwrap();
        cache.update(&newer);
        Ok(older)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        self.kv.scan(cf, range, direction)
    }
}

#[test]
fn a_record_that_was_overtaken_is_not_kept() {
    let store = Arc::new(Racing {
        kv: MemoryKv::new(),
        cache: OnceLock::new(),
    });
    let cache = Arc::new(RecordCache::new(store.clone(), 1 << 20));
    assert!(store.cache.set(Arc::downgrade(&cache)).is_ok());
    assert_eq!(cache.get(Cf::State, b"a").unwrap(), None);
    let newer = Some(Bytes::from("newer"));
    assert_eq!(cache.get(Cf::State, b"a").unwrap(), newer);
    cache.clear();
    assert_eq!(cache.get(Cf::State, b"a").unwrap(), newer);
}

/// Tables beside the state are not its business.
#[test]
fn only_records_of_the_state_are_kept() {
    let (_, store, cache) = cached(1 << 20);
    cache.get(Cf::Chain, b"head").unwrap();
    cache.get(Cf::Chain, b"head").unwrap();
    assert_eq!(store.reads.load(Ordering::Relaxed), 2);
    let found = View::new(Arc::new(cache))
        .scan_bytes(b"", None, 10)
        .unwrap();
    assert!(found.is_empty());
}
