use std::cell::Cell;

use super::*;

fn statement(term: u64, index: u64, digest: u8) -> LeaderStatement {
    LeaderStatement {
        term,
        leader: 1,
        index,
        digest: LogDigest([digest; 32]),
        signature: SignatureBytes([0; 64]),
    }
}

#[test]
fn a_statement_is_signed_once() {
    let signed = SignedStatements::default();
    let count = Cell::new(0u8);
    let sign = |_: &LeaderStatement| {
        count.set(count.get() + 1);
        [count.get(); 64]
    };
    let first = signed.sign(&statement(3, 5, 1), sign);
    for other in [statement(4, 5, 1), statement(3, 6, 1), statement(3, 5, 2)] {
        assert_ne!(signed.sign(&other, sign), first);
    }
    assert_eq!(signed.sign(&statement(3, 5, 1), sign), first);
    assert_eq!(count.get(), 4);
}

#[test]
fn signed_statements_are_bounded() {
    let signed = SignedStatements::default();
    for index in 0..1_000 {
        signed.sign(&statement(1, index, 0), |_| [0; 64]);
    }
    assert_eq!(signed.0.lock().unwrap().len(), SIGNED_MAX);
}
