use std::sync::Arc;
use std::time::Duration;

use lamplighter_contracts::admission::AdmissionError;
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::{
    Action, Encoding, EventsAction, Hash, Id, SecretKey, SignedTransaction, Transaction,
};

use super::{Busy, Pending, Pool};
use crate::config::PoolLimits;
use crate::ticket::Verdict;

fn transaction(key: u8, sequence: u64) -> Pending {
    let secret = SecretKey::from_seed([key; 32]);
    let transaction = Transaction {
        sender: Id::new("alice").unwrap(),
        sequence,
        expires_ms: 1_000 + sequence,
        action: Action::Events(EventsAction::Append { events: Vec::new() }),
    };
    let chain = Hash::ZERO;
    let signed = SignedTransaction::sign(&transaction, Encoding::Bincode, &chain, &secret);
    Arc::new(signed.verify(&chain).unwrap())
}

fn sequences(taken: &[Pending]) -> Vec<u64> {
    taken.iter().map(|t| t.get().sequence).collect()
}

fn pool(limits: PoolLimits) -> Pool {
    Pool::new(limits)
}

#[test]
fn a_full_pool_is_busy_and_keeps_what_it_has() {
    let pool = pool(PoolLimits {
        transactions_max: 2,
        ..PoolLimits::default()
    });
    pool.add(transaction(1, 1)).unwrap();
    pool.add(transaction(1, 2)).unwrap();
    assert_eq!(pool.add(transaction(1, 3)), Err(Busy::Pool));
    assert_eq!(
        pool.add(transaction(1, 2)),
        Ok(()),
        "the same one again is no new one"
    );
    assert_eq!(sequences(&pool.take_batch()), [1, 2]);
}

/// A block may have a transaction before the one who brought it has come back.
#[tokio::test]
async fn who_brings_a_transaction_hears_its_verdict_however_soon_it_is_known() {
    const COUNT: u64 = 300;
    let pool = Arc::new(pool(PoolLimits::default()));
    let transactions: Vec<_> = (1..=COUNT).map(|n| transaction(1, n)).collect();
    let applying = pool.clone();
    let ledger = std::thread::spawn(move || {
        let mut applied = 0;
        while applied < COUNT {
            for taken in applying.take_batch() {
                let refusal = AdmissionError::UnknownKey {
                    key: taken.envelope().key,
                };
                applying.resolve(&taken.hash(), &Verdict::Refused(refusal));
                applied += 1;
            }
        }
    });
    for transaction in transactions {
        let verdict = pool.insert(transaction).unwrap().verdict().await;
        assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    }
    ledger.join().unwrap();
}

#[test]
fn one_key_does_not_fill_the_pool() {
    let pool = pool(PoolLimits {
        per_key_max: 1,
        ..PoolLimits::default()
    });
    pool.add(transaction(1, 1)).unwrap();
    assert_eq!(pool.add(transaction(1, 2)), Err(Busy::Key));
    pool.add(transaction(2, 1)).unwrap();
    pool.resolve(&transaction(1, 1).hash(), &Verdict::Unknown);
    pool.add(transaction(1, 2)).unwrap();
}

#[test]
fn a_batch_takes_each_once_until_it_is_given_back_in_order() {
    let pool = pool(PoolLimits::default());
    (1..=4).for_each(|n| pool.add(transaction(1, n)).unwrap());
    let taken = pool.take_batch();
    assert_eq!(sequences(&taken), [1, 2, 3, 4]);
    assert!(pool.take_batch().is_empty());
    pool.add(transaction(1, 5)).unwrap();
    pool.give_back(taken[1..3].iter().map(|t| t.hash()));
    assert_eq!(sequences(&pool.take_batch()), [2, 3, 5]);
}

#[test]
fn what_was_resolved_meanwhile_is_not_given_back() {
    let pool = pool(PoolLimits::default());
    pool.add(transaction(1, 1)).unwrap();
    let taken = pool.take_batch();
    pool.resolve(&taken[0].hash(), &Verdict::Unknown);
    pool.give_back(taken.iter().map(|t| t.hash()));
    assert!(pool.take_batch().is_empty());
    assert_eq!(pool.len(), 0);
}

#[test]
fn bytes_bound_what_is_forwarded() {
    let pool = pool(PoolLimits::default());
    (1..=3).for_each(|n| pool.add(transaction(1, n)).unwrap());
    let one = super::size(&transaction(1, 1));
    assert_eq!(pool.take_to_forward(2 * one + 1, 10).len(), 2);
    assert!(one < TRANSACTION_BYTES_MAX);
}

#[tokio::test]
async fn everybody_who_waits_is_told_once() {
    let pool = pool(PoolLimits {
        waiters_max: 2,
        ..PoolLimits::default()
    });
    let hash = transaction(1, 1).hash();
    let first = pool.insert(transaction(1, 1)).unwrap();
    let second = pool.join(&hash).unwrap().unwrap();
    assert_eq!(pool.join(&hash).unwrap().unwrap_err(), Busy::Waiters);
    pool.resolve(&hash, &Verdict::Unknown);
    assert!(matches!(first.verdict().await, Verdict::Unknown));
    assert!(matches!(second.verdict().await, Verdict::Unknown));
    assert!(pool.join(&hash).is_none());
}

#[tokio::test]
async fn what_can_no_longer_happen_leaves() {
    let pool = pool(PoolLimits::default());
    let early = pool.insert(transaction(1, 1)).unwrap();
    pool.add(transaction(1, 2)).unwrap();
    pool.expire(1_001);
    assert!(matches!(early.verdict().await, Verdict::Refused(_)));
    assert_eq!(sequences(&pool.take_batch()), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_lost_waits_again() {
    let pool = pool(PoolLimits::default());
    pool.add(transaction(1, 1)).unwrap();
    assert_eq!(pool.take_to_forward(1 << 20, 10).len(), 1);
    pool.give_stale_back(Duration::from_secs(3));
    assert!(pool.take_batch().is_empty());
    tokio::time::advance(Duration::from_secs(4)).await;
    pool.give_stale_back(Duration::from_secs(3));
    assert_eq!(pool.take_batch().len(), 1);
}

#[test]
fn what_waits_of_a_key_is_found_by_its_numbers() {
    let pool = pool(PoolLimits::default());
    for (key, sequence) in [(1, 3), (2, 1), (1, 1), (1, 2)] {
        pool.add(transaction(key, sequence)).unwrap();
    }
    let key = |key: u8| SecretKey::from_seed([key; 32]).public();
    assert_eq!(sequences(&pool.of_key(&key(1), |n| n != 2)), [1, 3]);
    pool.resolve(&transaction(2, 1).hash(), &Verdict::Unknown);
    assert!(!pool.has_key(&key(2)));
    assert_eq!(pool.keys(), [(key(1), Id::new("alice").unwrap())]);
}

/// Also when the leader changed, or did not answer: what it had may still come into a block.
#[test]
fn what_has_left_is_not_resolved_as_unsent() {
    let pool = pool(PoolLimits::default());
    pool.add(transaction(1, 1)).unwrap();
    let taken = pool.take_batch();
    pool.add(transaction(1, 2)).unwrap();
    let resolve_both = || {
        for number in [1, 2] {
            pool.resolve_unsent(&transaction(1, number).hash(), &Verdict::Unknown);
        }
    };
    resolve_both();
    assert_eq!(pool.len(), 1, "the second never left");
    pool.give_all_back();
    resolve_both();
    assert_eq!(sequences(&pool.take_to_forward(1 << 20, 10)), [1]);
    pool.give_back(taken.iter().map(|t| t.hash()));
    resolve_both();
    assert_eq!(sequences(&pool.take_batch()), [1]);
}
