use lamplighter_types::{Attestation, Hash, Id, SecretKey, Validator, ValidatorSet};

use super::{Collected, Collector, WINDOW};

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
        "a duplicate"
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
    collector.prune_certified(5);
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

/// Certificates stopped at 5, and the chain went on far beyond.
#[test]
fn a_quorum_at_the_head_is_enough_however_old_the_last_certificate_is() {
    let (set, mut collector) = (set(4), Collector::default());
    collector.prune_certified(5);
    let head = 100 * WINDOW;
    for height in 6..head {
        collector.advance_head(height);
        collector.add(signed(1, height, 7), &set);
    }
    let kept = collector.heights.len() as u64;
    assert!((WINDOW..4 * WINDOW).contains(&kept), "{kept}");
    collector.add(signed(2, head - 1, 7), &set);
    let last = collector.add(signed(3, head - 1, 7), &set);
    assert!(matches!(last, Collected::Certificate(_)), "{last:?}");
}

/// The header that all others wait for may be neither near the last certificate nor near the head.
#[test]
fn an_awaited_height_is_kept_until_it_is_certified() {
    let (set, mut collector) = (set(4), Collector::default());
    let awaited = 3 * WINDOW;
    collector.await_height(awaited);
    collector.add(signed(1, awaited, 7), &set);
    collector.advance_head(9 * WINDOW);
    assert_eq!(collector.heights.len(), 1);
    collector.prune_certified(awaited);
    assert_eq!((collector.heights.len(), collector.awaited.len()), (0, 0));
}

/// One of four signs a hundred headers, before there is a block.
#[test]
fn a_validator_that_signs_many_headers_neither_fills_nor_stops_anything() {
    let (set, mut collector) = (set(4), Collector::default());
    for header in 0..100 {
        collector.add(signed(1, 1, header), &set);
    }
    assert_eq!(collector.heights[&1].len(), 1);
    assert_eq!(collector.add(signed(2, 1, 200), &set), Collected::Kept);
    assert_eq!(collector.add(signed(3, 1, 200), &set), Collected::Kept);
    let last = collector.add(signed(4, 1, 200), &set);
    assert!(matches!(last, Collected::Certificate(_)), "{last:?}");
}

#[test]
fn quorums_match_the_design() {
    for (n, quorum) in [(1, 1), (3, 2), (4, 3), (5, 4), (7, 5)] {
        assert_eq!(set(n).quorum(), quorum, "{n} validators");
    }
}
