use std::sync::Arc;
use std::time::Duration;

use lamplighter_contracts::admission::AdmissionError;
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::{
    Action, Encoding, EventsAction, Hash, Id, SecretKey, SignedTransaction, Transaction,
};

use super::{Busy, Mempool, PendingTransaction, Verdict};
use crate::config::MempoolLimits;

fn transaction(key: u8, sequence: u64) -> PendingTransaction {
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

fn sequences(dequeued: &[PendingTransaction]) -> Vec<u64> {
    dequeued.iter().map(|t| t.get().sequence).collect()
}

#[test]
fn a_full_mempool_is_busy_and_keeps_its_transactions() {
    let mempool = Mempool::new(MempoolLimits {
        transactions_max: 2,
        ..MempoolLimits::default()
    });
    mempool.add(transaction(1, 1)).unwrap();
    mempool.add(transaction(1, 2)).unwrap();
    assert_eq!(mempool.add(transaction(1, 3)), Err(Busy::Mempool));
    assert_eq!(
        mempool.add(transaction(1, 2)),
        Ok(()),
        "the same one again is no new one"
    );
    assert_eq!(sequences(&mempool.dequeue_batch()), [1, 2]);
}

/// A block may have a transaction before the call that inserts it returns.
#[tokio::test]
async fn a_ticket_gets_its_verdict_even_if_the_block_is_applied_at_once() {
    const COUNT: u64 = 300;
    let mempool = Arc::new(Mempool::new(MempoolLimits::default()));
    let transactions: Vec<_> = (1..=COUNT).map(|n| transaction(1, n)).collect();
    let applier = mempool.clone();
    let ledger = std::thread::spawn(move || {
        let mut applied = 0;
        while applied < COUNT {
            for dequeued in applier.dequeue_batch() {
                let refusal = AdmissionError::UnknownKey {
                    key: dequeued.envelope().key,
                };
                applier.resolve(&dequeued.hash(), &Verdict::Refused(refusal));
                applied += 1;
            }
        }
    });
    for transaction in transactions {
        let verdict = mempool.insert(transaction).unwrap().verdict().await;
        assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    }
    ledger.join().unwrap();
}

#[test]
fn one_key_does_not_fill_the_mempool() {
    let mempool = Mempool::new(MempoolLimits {
        per_key_max: 1,
        ..MempoolLimits::default()
    });
    mempool.add(transaction(1, 1)).unwrap();
    assert_eq!(mempool.add(transaction(1, 2)), Err(Busy::Key));
    mempool.add(transaction(2, 1)).unwrap();
    mempool.resolve(&transaction(1, 1).hash(), &Verdict::Unknown);
    mempool.add(transaction(1, 2)).unwrap();
}

#[test]
fn a_transaction_is_in_one_batch_until_it_is_requeued_in_order() {
    let mempool = Mempool::new(MempoolLimits::default());
    (1..=4).for_each(|n| mempool.add(transaction(1, n)).unwrap());
    let dequeued = mempool.dequeue_batch();
    assert_eq!(sequences(&dequeued), [1, 2, 3, 4]);
    assert!(mempool.dequeue_batch().is_empty());
    mempool.add(transaction(1, 5)).unwrap();
    mempool.requeue(dequeued[1..3].iter().map(|t| t.hash()));
    assert_eq!(sequences(&mempool.dequeue_batch()), [2, 3, 5]);
}

#[test]
fn a_resolved_transaction_is_not_requeued() {
    let mempool = Mempool::new(MempoolLimits::default());
    mempool.add(transaction(1, 1)).unwrap();
    let dequeued = mempool.dequeue_batch();
    mempool.resolve(&dequeued[0].hash(), &Verdict::Unknown);
    mempool.requeue(dequeued.iter().map(|t| t.hash()));
    assert!(mempool.dequeue_batch().is_empty());
    assert_eq!(mempool.len(), 0);
}

#[test]
fn forwarded_transactions_are_bounded_in_bytes() {
    let mempool = Mempool::new(MempoolLimits::default());
    (1..=3).for_each(|n| mempool.add(transaction(1, n)).unwrap());
    let one = super::size(&transaction(1, 1));
    assert_eq!(mempool.dequeue_to_forward(2 * one + 1, 10).len(), 2);
    assert!(one < TRANSACTION_BYTES_MAX);
}

#[tokio::test]
async fn each_waiter_gets_the_verdict_once() {
    let mempool = Mempool::new(MempoolLimits {
        waiters_max: 2,
        ..MempoolLimits::default()
    });
    let hash = transaction(1, 1).hash();
    let first = mempool.insert(transaction(1, 1)).unwrap();
    let second = mempool.join(&hash).unwrap().unwrap();
    assert_eq!(mempool.join(&hash).unwrap().unwrap_err(), Busy::Waiters);
    mempool.resolve(&hash, &Verdict::Unknown);
    assert!(matches!(first.verdict().await, Verdict::Unknown));
    assert!(matches!(second.verdict().await, Verdict::Unknown));
    assert!(mempool.join(&hash).is_none());
}

#[tokio::test]
async fn an_expired_transaction_is_refused() {
    let mempool = Mempool::new(MempoolLimits::default());
    let early = mempool.insert(transaction(1, 1)).unwrap();
    mempool.add(transaction(1, 2)).unwrap();
    mempool.expire(1_001);
    assert!(matches!(early.verdict().await, Verdict::Refused(_)));
    assert_eq!(sequences(&mempool.dequeue_batch()), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_the_leader_lost_is_queued_again() {
    let mempool = Mempool::new(MempoolLimits::default());
    mempool.add(transaction(1, 1)).unwrap();
    assert_eq!(mempool.dequeue_to_forward(1 << 20, 10).len(), 1);
    mempool.requeue_overdue(Duration::from_secs(3));
    assert!(mempool.dequeue_batch().is_empty());
    tokio::time::advance(Duration::from_secs(4)).await;
    mempool.requeue_overdue(Duration::from_secs(3));
    assert_eq!(mempool.dequeue_batch().len(), 1);
}

#[test]
fn pending_transactions_are_found_by_key_and_number() {
    let mempool = Mempool::new(MempoolLimits::default());
    for (key, sequence) in [(1, 3), (2, 1), (1, 1), (1, 2)] {
        mempool.add(transaction(key, sequence)).unwrap();
    }
    let key = |key: u8| SecretKey::from_seed([key; 32]).public();
    assert_eq!(sequences(&mempool.of_key(&key(1), |n| n != 2)), [1, 3]);
    mempool.resolve(&transaction(2, 1).hash(), &Verdict::Unknown);
    assert!(!mempool.has_key(&key(2)));
    assert_eq!(mempool.keys(), [(key(1), Id::new("alice").unwrap())]);
}

/// The same after the leader changed or did not answer: a block to come may have the transaction.
#[test]
fn a_sent_transaction_is_not_resolved_as_unsent() {
    let mempool = Mempool::new(MempoolLimits::default());
    mempool.add(transaction(1, 1)).unwrap();
    let dequeued = mempool.dequeue_batch();
    mempool.add(transaction(1, 2)).unwrap();
    let resolve_both = || {
        for number in [1, 2] {
            mempool.resolve_unsent(&transaction(1, number).hash(), &Verdict::Unknown);
        }
    };
    resolve_both();
    assert_eq!(mempool.len(), 1, "the second was never sent");
    mempool.requeue_all();
    resolve_both();
    assert_eq!(sequences(&mempool.dequeue_to_forward(1 << 20, 10)), [1]);
    mempool.requeue(dequeued.iter().map(|t| t.hash()));
    resolve_both();
    assert_eq!(sequences(&mempool.dequeue_batch()), [1]);
}

fn of_account(account: &str, key: u8, sequence: u64) -> PendingTransaction {
    let transaction = Transaction {
        sender: Id::new(account).unwrap(),
        ..transaction(key, sequence).get().clone()
    };
    let secret = SecretKey::from_seed([key; 32]);
    let chain = Hash::ZERO;
    let signed = SignedTransaction::sign(&transaction, Encoding::Bincode, &chain, &secret);
    Arc::new(signed.verify(&chain).unwrap())
}

fn senders(dequeued: &[PendingTransaction]) -> Vec<(&str, u64)> {
    let sender = |t: &PendingTransaction| t.get().sequence;
    let names = dequeued.iter().map(|t| t.get().sender.as_str());
    names.zip(dequeued.iter().map(sender)).collect()
}

/// The many transactions of one account delay those of another by one each.
#[test]
fn accounts_take_turns_in_batches() {
    let mempool = Mempool::new(MempoolLimits::default());
    (1..=1_000).for_each(|n| mempool.add(of_account("flood", 1, n)).unwrap());
    (1..=2).for_each(|n| mempool.add(of_account("other", 2, n)).unwrap());
    let five = mempool.dequeue_to_forward(usize::MAX, 5);
    let expected = [
        ("flood", 1),
        ("other", 1),
        ("flood", 2),
        ("other", 2),
        ("flood", 3),
    ];
    assert_eq!(senders(&five), expected);
    // One that does not fit keeps its turn.
    mempool.add(of_account("other", 2, 3)).unwrap();
    assert_eq!(mempool.dequeue_to_forward(10, 5).len(), 0);
    assert_eq!(mempool.dequeue_to_forward(10, 5).len(), 0);
    let two = mempool.dequeue_to_forward(usize::MAX, 2);
    assert_eq!(senders(&two), [("flood", 4), ("other", 3)]);
    // Those in flight come back before the others of their account.
    mempool.requeue(five.iter().map(|t| t.hash()));
    let five = mempool.dequeue_to_forward(usize::MAX, 5);
    let expected = [
        ("flood", 1),
        ("other", 1),
        ("flood", 2),
        ("other", 2),
        ("flood", 3),
    ];
    assert_eq!(senders(&five), expected);
}

#[test]
fn one_account_does_not_fill_the_mempool() {
    let mempool = Mempool::new(MempoolLimits {
        per_account_max: 2,
        ..MempoolLimits::default()
    });
    mempool.add(of_account("flood", 1, 1)).unwrap();
    mempool.add(of_account("flood", 2, 1)).unwrap();
    let third = of_account("flood", 3, 1);
    assert_eq!(mempool.add(third.clone()), Err(Busy::Account));
    mempool.add(of_account("other", 4, 1)).unwrap();
    mempool.resolve(&of_account("flood", 2, 1).hash(), &Verdict::Unknown);
    mempool.add(third).unwrap();
}

/// Hashes of transactions that ended do not pile up in the queue.
#[test]
fn the_queue_of_what_ended_is_bounded() {
    let mempool = Mempool::new(MempoolLimits::default());
    for n in 1..=5_000u64 {
        let account = format!("account-{}", n % 7);
        let transaction = of_account(&account, (n % 7) as u8, n);
        let hash = transaction.hash();
        mempool.add(transaction).unwrap();
        mempool.resolve(&hash, &Verdict::Unknown);
        assert!(mempool.lock().queue.len() <= 1_100);
    }
    assert!(mempool.dequeue_batch().is_empty());
    assert!(mempool.lock().queue.is_empty());
    assert!(mempool.lock().per_account.is_empty());
}
