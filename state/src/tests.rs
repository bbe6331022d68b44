use std::sync::Arc;

use lamplighter_store::{Cf, Durability, Kv, MemoryKv, WriteBatch};
use lamplighter_types::codec;

use crate::{Growth, Key, Overlay, View};

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

/// Bytes of the key of a number, and of the number.
const ENTRY_BYTES: u64 = 9 + 8;

#[test]
fn the_growth_of_a_transaction_is_what_it_makes_less_what_it_removes() {
    let mut overlay = Overlay::new(View::new(store_with(0..3)));
    let number = |n| numbers().number(n);
    let growth = |records| Growth {
        records,
        bytes: records * ENTRY_BYTES,
    };
    let put = |overlay: &mut Overlay, range: std::ops::Range<u64>| {
        range.for_each(|n| overlay.put(&number(n), &n));
    };
    put(&mut overlay, 0..3);
    assert_eq!(overlay.growth().unwrap(), growth(0), "they were there");
    put(&mut overlay, 3..5);
    assert_eq!(overlay.growth().unwrap(), growth(2));
    overlay.delete(&number(0));
    assert_eq!(overlay.growth().unwrap(), growth(1));
    overlay.commit();
    assert_eq!(overlay.growth().unwrap(), growth(0), "a new transaction");
    put(&mut overlay, 3..5);
    assert_eq!(
        overlay.growth().unwrap(),
        growth(0),
        "made before in the block"
    );
    // What another transaction removed is new again; what was removed beyond is no credit.
    put(&mut overlay, 0..1);
    assert_eq!(overlay.growth().unwrap(), growth(1));
    overlay.rollback();
    (1..5).for_each(|n| overlay.delete(&number(n)));
    assert_eq!(overlay.growth().unwrap(), growth(0));
    overlay.commit();
    put(&mut overlay, 1..2);
    assert_eq!(overlay.growth().unwrap(), growth(1), "no credit is kept");
}

#[test]
fn a_longer_record_in_the_same_place_grows_by_its_bytes() {
    let key: Key<String> = Key::table(8).byte(1);
    let mut overlay = Overlay::new(View::new(store_with(0..0)));
    overlay.put(&key, &"four".to_owned());
    overlay.commit();
    overlay.put(&key, &"four and ten".to_owned());
    let eight_bytes = Growth {
        records: 0,
        bytes: 8,
    };
    assert_eq!(overlay.growth().unwrap(), eight_bytes);
    // It counts the same whether the transaction has read the record before or not.
    assert!(overlay.exists(&key).unwrap());
    assert_eq!(overlay.growth().unwrap(), eight_bytes);
}

#[test]
fn a_read_before_the_write_changes_no_growth() {
    let mut overlay = Overlay::new(View::new(store_with(0..1)));
    assert_eq!(overlay.get(&numbers().number(0)).unwrap(), Some(0));
    assert_eq!(overlay.get(&numbers().number(1)).unwrap(), None);
    overlay.put(&numbers().number(0), &7);
    overlay.put(&numbers().number(1), &7);
    assert_eq!(overlay.growth().unwrap().records, 1);
}

mod growth_is_no_less_than_the_state_grows {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever transactions write, remove and write again, committed or not.
        #[test]
        fn in_any_order(
            transactions in prop::collection::vec(
                (prop::collection::vec((0_u64..8, any::<bool>()), 0..6), any::<bool>()),
                0..20,
            )
        ) {
            let mut overlay = Overlay::new(View::new(store_with(0..4)));
            let (mut present, mut counted) = (4, 4);
            for (writes, is_kept) in transactions {
                for (n, makes) in writes {
                    let key = numbers().number(n);
                    if makes {
                        overlay.put(&key, &n);
                    } else {
                        overlay.delete(&key);
                    }
                }
                let growth = overlay.growth().unwrap();
                prop_assert_eq!(growth.bytes, growth.records * ENTRY_BYTES);
                if is_kept {
                    overlay.commit();
                    let after = found(&overlay, None, 100).len() as u64;
                    prop_assert_eq!(growth.records, after.saturating_sub(present));
                    counted += growth.records;
                    present = after;
                } else {
                    overlay.rollback();
                }
                prop_assert!(counted >= present);
            }
        }
    }
}
