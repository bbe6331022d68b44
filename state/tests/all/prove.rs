//! Bundles from tables and tree verify from the genesis file.

use lamplighter_state::{StateError, prove, tables};
use lamplighter_types::merkle::list;
use lamplighter_types::proof::{ProvenRecord, TrustedSet};

use crate::fixture::{Content, TestChain, event, receipt, transaction, validators};

fn chain() -> TestChain {
    let mut chain = TestChain::new();
    for height in 1..10u8 {
        let chain_id = chain.genesis.chain_id();
        let transactions: Vec<_> = (1..height.into())
            .map(|n| transaction(n, &chain_id))
            .collect();
        let receipts = transactions
            .iter()
            .map(|t| receipt(t.hash(), Vec::new()))
            .collect();
        chain.push(Content {
            receipts,
            events: (0..u64::from(height)).map(|n| event("lamp-1", n)).collect(),
            writes: vec![
                (vec![height], Some(vec![height; 9])),
                (vec![height - 1], None),
            ],
            transactions,
            next: (height % 4 == 0).then(|| validators(height..=height + 3)),
        });
    }
    chain.certify();
    chain
}

#[test]
fn all_kinds_of_records_are_proven_under_the_newest_certificate() {
    let chain = chain();
    let kv = &*chain.kv;
    for height in 2..10 {
        let last = height as u32 - 2;
        let index_of = u64::from(last);
        let record = prove::transaction(kv, height, last).unwrap().unwrap();
        let proven = chain.proven(record, height).unwrap();
        assert_eq!((proven.height, proven.head_height), (height, 9));
        assert!(
            matches!(proven.record, ProvenRecord::Transaction { index, .. } if index == index_of)
        );
        let record = prove::receipt(kv, height, last).unwrap().unwrap();
        let proven = chain.proven(record, height).unwrap();
        let wanted = tables::receipt(kv, height, last).unwrap().unwrap();
        assert_eq!(
            proven.record,
            ProvenRecord::Receipt {
                receipt: wanted,
                index: last.into()
            }
        );
        let record = prove::event(kv, height, last).unwrap().unwrap();
        let proven = chain.proven(record, height).unwrap();
        let wanted = event("lamp-1", last.into());
        assert_eq!(
            proven.record,
            ProvenRecord::Event {
                event: wanted,
                index: last.into()
            }
        );
        assert!(prove::transaction(kv, height, last + 1).unwrap().is_none());
        assert!(prove::receipt(kv, height, last + 1).unwrap().is_none());
        assert!(prove::event(kv, height, last + 2).unwrap().is_none());
    }
}

#[test]
fn a_state_proof_stays_valid_when_blocks_follow() {
    let mut chain = chain();
    let record =
        |chain: &TestChain, key: &[u8]| prove::state(&*chain.kv, &chain.tree, key).unwrap();
    let (present, absent) = (record(&chain, &[9]), record(&chain, &[8]));
    for _ in 0..3 {
        for (record, key, value) in [(&present, 9, Some(vec![9; 9])), (&absent, 8, None)] {
            let proven = chain.proven(record.clone(), 9).unwrap();
            assert_eq!(
                proven.record,
                ProvenRecord::State {
                    key: vec![key],
                    value
                }
            );
            assert_eq!(proven.height, 9);
        }
        let writes = vec![(vec![9], Some(vec![0])), (vec![8], Some(vec![1]))];
        chain.push(Content {
            writes,
            ..Content::default()
        });
        chain.certify();
    }
    assert_eq!(chain.proven(present, 9).unwrap().head_height, 12);
}

#[test]
fn what_is_missing_is_named() {
    let mut chain = chain();
    chain.push(Content::default());
    let record = prove::event(&*chain.kv, 2, 0).unwrap().unwrap();
    let missing = prove::bundle(&*chain.kv, record.clone(), 2, 10, 0).unwrap_err();
    assert!(
        matches!(&missing, StateError::Missing { what } if what == "the certificate at height 10")
    );
    let missing = prove::bundle(&*chain.kv, record, 2, 99, 0).unwrap_err();
    assert!(matches!(missing, StateError::Missing { .. }));
}

/// The newest that a certified block brought, whatever came after it.
#[test]
fn validators_are_proven_without_the_newest_header() {
    let mut chain = chain();
    let genesis = TrustedSet::from(&chain.genesis);
    let of = |chain: &TestChain, certified| {
        let path = prove::set_path(&*chain.kv, 0, certified).unwrap();
        assert!(!path.more);
        path.verify(&genesis).unwrap()
    };
    let certified = tables::newest_certified(&*chain.kv, 0).unwrap().unwrap();
    let reached = of(&chain, certified);
    let in_force = tables::validators_at(&*chain.kv, reached.height + 1).unwrap();
    assert_eq!((reached.height, &reached.set), (8, &in_force));
    chain.push(Content::default());
    assert_eq!(of(&chain, certified), reached);
    assert_eq!(of(&chain, 1), genesis, "still those of the genesis file");
}

#[test]
fn two_heads_are_consistent() {
    let chain = chain();
    for old in 0..10 {
        for new in old..10 {
            let path = prove::consistency(&*chain.kv, old, new).unwrap();
            let root = |height: u64| chain.headers[height as usize].history_root;
            list::verify_consistency(old, &root(old), new, &root(new), &path).unwrap();
        }
    }
}
