use std::time::Instant;

use lamplighter_types::{
    AlarmChange, DeviceEvent, Encoding, Hash, SecretKey, Severity, SignedTransaction, Transaction,
};
use tokio::sync::oneshot;

use crate::runtime::dead_letter::DeadLetterFile;
use crate::runtime::report_check::RejectReason;
use crate::runtime::storage::Storage;
use crate::runtime::tests::report_check::devices;
use crate::south::StorageReply;
use crate::spool::{DEVICE_REPORTS_MAX, OutgoingReport, Spool, SpoolRecord};
use crate::submission::{DeferredReports, ReceiptOutcome, ResolvedReport, next_batch};
use crate::verify::tests::id;

fn event(device: &str, sequence: u64) -> OutgoingReport {
    OutgoingReport::Event(DeviceEvent {
        device: id(device),
        sequence,
        time_ms: 1,
        kind: "x-test".to_owned(),
        severity: Severity::Minor,
        alarm: AlarmChange::None,
        data: String::new(),
        signature: None,
    })
}

fn storage(dir: &tempfile::TempDir) -> Storage {
    let spool = Spool::open(&dir.path().join("spool"), 64 << 20).unwrap();
    let letters = DeadLetterFile::new(dir.path().join("refused.jsonl"), Instant::now());
    Storage::new(spool, letters, devices(dir))
}

/// Hands in events, and returns the answers.
fn hand_in(storage: &mut Storage, events: Vec<OutgoingReport>) -> Vec<StorageReply> {
    let (mut pending, mut answers) = (Vec::new(), Vec::new());
    for event in events {
        let (stored, answer) = oneshot::channel();
        pending.push((event, stored));
        answers.push(answer);
    }
    storage.store_reports(pending, |_| false).unwrap();
    answers
        .into_iter()
        .map(|mut answer| answer.try_recv().unwrap())
        .collect()
}

#[tokio::test]
async fn a_thing_that_floods_waits_and_the_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = storage(&dir);
    let flood = DEVICE_REPORTS_MAX as u64 + 50;
    let mut events: Vec<_> = (1..=flood).map(|n| event("flood", n)).collect();
    events.push(event("lamp", 1));
    let answers = hand_in(&mut storage, events);
    let stored = |answer: &&StorageReply| **answer == StorageReply::Stored;
    assert_eq!(
        answers.iter().filter(stored).count(),
        DEVICE_REPORTS_MAX + 1
    );
    assert_eq!(answers.last(), Some(&StorageReply::Stored));
    let refused = &answers[DEVICE_REPORTS_MAX];
    let StorageReply::Unavailable(reason) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        reason.contains("flood is used up: it would have 257 reports"),
        "{reason}"
    );
    // A copy of what it has is known.
    assert_eq!(
        hand_in(&mut storage, vec![event("flood", 1)]),
        [StorageReply::Stored]
    );
}

#[tokio::test]
async fn a_message_is_refused_for_good_only_once_it_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = storage(&dir);
    let mut reject = || storage.reject("lamp", &[1, 2], RejectReason::Malformed);
    assert!(matches!(reject(), StorageReply::Refused(_)));
    let letters = dir.path().join("refused.jsonl");
    let file = std::fs::File::options().write(true).open(letters).unwrap();
    file.set_len(16 << 20).unwrap();
    assert!(
        matches!(reject(), StorageReply::Unavailable(_)),
        "the file is full"
    );
}

/// What a receipt defers has its time on the disk with the same sync.
#[tokio::test]
async fn the_time_of_a_deferral_is_on_the_disk_with_the_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = storage(&dir);
    hand_in(&mut storage, vec![event("lamp", 1), event("lamp", 2)]);
    let deferred = DeferredReports::default();
    let now = tokio::time::Instant::now();
    let batch = next_batch(storage.spool(), &deferred, now).unwrap();
    let content = Transaction {
        sender: id("gw"),
        sequence: 1,
        expires_ms: 1,
        action: batch.action,
    };
    let (chain, secret) = (Hash::of(b"chain"), SecretKey::from_seed([1; 32]));
    let envelope = SignedTransaction::sign(&content, Encoding::Bincode, &chain, &secret);
    let transaction = envelope.hash(&chain);
    let sign = SpoolRecord::Sign {
        sequence: 1,
        items: batch.items.clone(),
        transaction,
        envelope: Box::new(envelope),
    };
    assert!(storage.commit(vec![sign]).unwrap());
    let mut outcome = ReceiptOutcome {
        record: SpoolRecord::ResolvePart {
            transaction,
            kept: vec![2],
        },
        resolved: Vec::new(),
        unwritten: Vec::new(),
        deferred: vec![2],
    };
    assert!(storage.resolve(&mut outcome).unwrap());
    drop(storage);
    let spool = Spool::open(&dir.path().join("spool"), 64 << 20).unwrap();
    let since_ms = spool.state().waiting()[&2].deferred_since_ms.unwrap();
    assert!(lamplighter_system::unix_ms() - since_ms < 60_000);
}

/// Signs the report that waits and lets the ledger accept it.
fn accept(storage: &mut Storage, outgoing: OutgoingReport) {
    let deferred = DeferredReports::default();
    let batch = next_batch(storage.spool(), &deferred, tokio::time::Instant::now()).unwrap();
    let content = Transaction {
        sender: id("gw"),
        sequence: storage.spool().sequence() + 1,
        expires_ms: 1,
        action: batch.action,
    };
    let (chain, secret) = (Hash([9; 32]), SecretKey::from_seed([7; 32]));
    let envelope = SignedTransaction::sign(&content, Encoding::Bincode, &chain, &secret);
    let (number, transaction) = (storage.spool().number(), envelope.hash(&chain));
    let sign = SpoolRecord::Sign {
        sequence: content.sequence,
        items: batch.items,
        transaction,
        envelope: Box::new(envelope),
    };
    assert!(storage.commit(vec![sign]).unwrap());
    let mut outcome = ReceiptOutcome {
        record: SpoolRecord::Resolve { transaction },
        resolved: vec![ResolvedReport {
            number,
            outgoing,
            rejection: None,
        }],
        unwritten: vec![],
        deferred: vec![],
    };
    assert!(storage.resolve(&mut outcome).unwrap());
}

/// The answer to a Thing was lost, or it booted: it sends its report again when the ledger has it.
#[tokio::test]
async fn a_report_that_the_ledger_has_is_not_sent_to_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = storage(&dir);
    hand_in(&mut storage, vec![event("lamp", 1)]);
    accept(&mut storage, event("lamp", 1));
    let key = event("lamp", 1).ordering_key();
    let is_empty = |storage: &Storage| storage.spool().newest_number(&key).is_none();
    assert!(is_empty(&storage));
    let again = hand_in(&mut storage, vec![event("lamp", 1)]);
    assert_eq!(again, [StorageReply::Stored]);
    assert!(is_empty(&storage), "the ledger would refuse it");
    // Another report with the same number is the ledger's to refuse.
    let OutgoingReport::Event(mut other) = event("lamp", 1) else {
        unreachable!()
    };
    other.data = "another".to_owned();
    hand_in(&mut storage, vec![OutgoingReport::Event(other)]);
    assert!(!is_empty(&storage));
}
