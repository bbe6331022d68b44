use std::sync::Arc;

use lamplighter_store::{Cf, Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::codec;

use crate::{Key, Overlay, View};

fn numbers() -> Key<u64> {
    Key::table(7)
}

fn store_with(range: std::ops::Range<u64>) -> Arc<MemoryKv> {
    let kv = Arc::new(MemoryKv::new());
    let mut batch = WriteBatch::new();
    for n in range {
        let key = numbers().number(n);
        batch.put(Cf::State, key.as_bytes().to_vec(), codec::encode(&(n * 10)));
    }
    kv.write(batch, Durability::Unsynced).unwrap();
    kv
}

fn found(overlay: &Overlay, after: Option<u64>, limit: usize) -> Vec<u64> {
    let after = after.map(|n| numbers().number(n).as_bytes().to_vec());
    let found = overlay.scan(&numbers(), after.as_deref(), limit).unwrap();
    found.into_iter().map(|(_, value)| value).collect()
}

#[test]
fn a_scan_sees_writes_and_deletions_of_both_layers() {
    let mut overlay = Overlay::new(View::new(store_with(0..5)));
    overlay.delete(&numbers().number(1));
    overlay.put(&numbers().number(3), &333);
    overlay.commit();
    overlay.delete(&numbers().number(0));
    overlay.put(&numbers().number(9), &90);
    assert_eq!(found(&overlay, None, 10), [20, 333, 40, 90]);
    assert_eq!(found(&overlay, None, 2), [20, 333]);
    assert_eq!(found(&overlay, Some(3), 1), [40]);
    overlay.rollback();
    assert_eq!(found(&overlay, None, 10), [0, 20, 333, 40]);
}

#[test]
fn a_dropped_transaction_leaves_no_trace() {
    let mut overlay = Overlay::new(View::new(store_with(0..1)));
    overlay.put(&numbers().number(0), &1);
    overlay.rollback();
    assert_eq!(overlay.get(&numbers().number(0)).unwrap(), Some(0));
    assert!(overlay.into_changes().writes.is_empty());
}

#[test]
fn no_key_is_the_prefix_of_another_one() {
    let short: Key<u64> = Key::table(1).text("a");
    let long: Key<u64> = Key::table(1).text("a\0b");
    assert!(!long.as_bytes().starts_with(short.as_bytes()));
    let one: Key<u64> = Key::table(1).text("\u{1}");
    let zero: Key<u64> = Key::table(1).text("\0");
    assert_ne!(one.as_bytes(), zero.as_bytes());
}

#[test]
fn a_record_that_does_not_decode_names_its_key() {
    let kv = store_with(0..0);
    let mut batch = WriteBatch::new();
    batch.put(Cf::State, vec![7, 1], vec![1, 2, 3]);
    kv.write(batch, Durability::Unsynced).unwrap();
    let error = View::new(kv)
        .get(&Key::<u64>::table(7).byte(1))
        .unwrap_err();
    assert!(error.to_string().contains("0701"), "{error}");
}
