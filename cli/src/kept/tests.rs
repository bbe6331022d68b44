use std::os::unix::fs::PermissionsExt;

use lamplighter_types::{Action, Encoding, EventsAction, Id, SecretKey, Transaction};

use super::*;

fn chain() -> Hash {
    Hash::of(b"chain")
}

fn signed(sequence: u64, expires_ms: u64) -> (Hash, SignedTransaction) {
    let transaction = Transaction {
        sender: Id::new("anna").unwrap(),
        sequence,
        expires_ms,
        action: Action::Events(EventsAction::Append { events: Vec::new() }),
    };
    let secret = SecretKey::from_seed([1; 32]);
    let signed = SignedTransaction::sign(&transaction, Encoding::Bincode, &chain(), &secret);
    (signed.hash(&chain()), signed)
}

fn sequences(kept: &KeptTransactions) -> Vec<u64> {
    let all = kept.list().unwrap();
    let sequence = |one: &KeptTransaction| one.signed.decode_payload().unwrap().sequence;
    all.iter().map(sequence).collect()
}

#[test]
fn transactions_are_kept_for_this_user_until_their_outcome_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let kept = KeptTransactions::new(dir.path(), chain());
    assert!(kept.list().unwrap().is_empty());
    for sequence in [2, 1] {
        let (hash, signed) = signed(sequence, 1_000 + sequence);
        kept.keep(&hash, &signed, 0).unwrap();
    }
    assert_eq!(sequences(&kept), [1, 2]);
    let (hash, bytes) = signed(1, 1_001);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept.file(&hash)), 0o600);
    assert_eq!(mode(kept.file(&hash).parent().unwrap()), 0o700);
    let read = fs::read(kept.file(&hash)).unwrap();
    assert_eq!(
        codec::decode_json::<SignedTransaction>(&read).unwrap(),
        bytes
    );

    // Of another ledger, or damaged: left out, and no error.
    let other = KeptTransactions::new(dir.path(), Hash::of(b"other"));
    assert!(other.list().unwrap().is_empty());
    fs::copy(kept.file(&hash), kept.file(&Hash::ZERO)).unwrap();
    fs::write(kept.file(&Hash::of(b"x")), "{").unwrap();
    assert_eq!(sequences(&kept), [1, 2]);

    kept.forget(&hash).unwrap();
    kept.forget(&hash).unwrap();
    assert_eq!(sequences(&kept), [2]);
}

#[test]
fn their_number_and_age_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let kept = KeptTransactions::new(dir.path(), chain());
    for sequence in 0..KEPT_MAX as u64 + 2 {
        let (hash, signed) = signed(sequence, 1_000 + sequence);
        kept.keep(&hash, &signed, 1_000).unwrap();
    }
    let expected: Vec<_> = (2..KEPT_MAX as u64 + 2).collect();
    assert_eq!(sequences(&kept), expected);
    let now_ms = 1_000 + KEPT_MAX as u64 + KEPT_EXPIRED_MS;
    let (hash, signed) = signed(9_999, now_ms + 5);
    kept.keep(&hash, &signed, now_ms).unwrap();
    assert_eq!(
        sequences(&kept),
        [KEPT_MAX as u64, KEPT_MAX as u64 + 1, 9_999]
    );
}
