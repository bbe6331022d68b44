use lamplighter_types::{Attestation, Hash, Id, SecretKey, Validator, ValidatorSet};

use super::{Collected, Collector, HEADERS_PER_HEIGHT_MAX, WINDOW};

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn set(n: u8) -> ValidatorSet {
    let validator = |n: u8| Validator {
        node: n.into(),
        account: Id::new(format!("node-{n}")).unwrap(),
        key: secret(n).public(),
        address: String::new(),
    };
    ValidatorSet {
        validators: (1..=n).map(validator).collect(),
    }
}

fn signed(n: u8, height: u64, header: u8) -> Attestation {
    Attestation::sign(height, Hash([header; 32]), &secret(n))
}

#[test]
fn a_quorum_of_equal_signatures_makes_a_certificate() {
    let (set, mut collector) = (set(4), Collector::default());
    assert_eq!(collector.add(signed(1, 1, 7), &set), Collected::Kept);
    assert_eq!(
        collector.add(signed(1, 1, 7), &set),
        Collected::Ignored,
        "the same again"
    );
    assert_eq!(
        collector.add(signed(2, 1, 8), &set),
        Collected::Kept,
        "another header"
    );
    assert_eq!(collector.add(signed(3, 1, 7), &set), Collected::Kept);
    assert_eq!(
        collector.add(signed(9, 1, 7), &set),
        Collected::Ignored,
        "no validator"
    );
    let Collected::Certificate(certificate) = collector.add(signed(4, 1, 7), &set) else {
        panic!("three of four are a quorum");
    };
    assert_eq!(certificate.verify(&set), Ok(()));
}

#[test]
fn heights_below_the_certified_and_far_ahead_are_not_kept() {
    let (set, mut collector) = (set(4), Collector::default());
    collector.settle(5);
    assert_eq!(collector.add(signed(1, 5, 7), &set), Collected::Ignored);
    assert_eq!(
        collector.add(signed(1, 5 + WINDOW, 7), &set),
        Collected::Kept
    );
    assert_eq!(
        collector.add(signed(1, 6 + WINDOW, 7), &set),
        Collected::Ignored
    );
}

#[test]
fn a_validator_that_signs_many_headers_fills_nothing() {
    let (set, mut collector) = (set(4), Collector::default());
    for header in 0..100 {
        collector.add(signed(1, 1, header), &set);
    }
    assert_eq!(collector.heights[&1].len(), HEADERS_PER_HEIGHT_MAX);
}

#[test]
fn quorums_are_those_of_the_design() {
    for (n, quorum) in [(1, 1), (3, 2), (4, 3), (5, 4), (7, 5)] {
        assert_eq!(set(n).quorum(), quorum, "{n} validators");
    }
}
