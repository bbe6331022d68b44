use lamplighter_types::{Id, SecretKey, Validator, ValidatorSet};
use tokio::time::Instant;

use super::{ClockStanding, Reading, Seen, distance};

const LIMIT_MS: u64 = 30_000;
const THREE_YEARS_MS: i64 = 3 * 365 * 86_400_000;

fn set(n: u64) -> ValidatorSet {
    let validator = |node: u64| Validator {
        node,
        account: Id::new(format!("node-{node}")).unwrap(),
        key: SecretKey::from_seed([node as u8; 32]).public(),
        address: String::new(),
    };
    ValidatorSet {
        validators: (1..=n).map(validator).collect(),
    }
}

/// The standing of node 1 of `n` by these distances of the nodes from 2 on.
fn standing(n: u64, offsets: &[Option<i64>]) -> ClockStanding {
    let mut seen = Seen::default();
    for (node, offset) in (2..).zip(offsets) {
        if let Some(offset_ms) = *offset {
            let at = Instant::now();
            let reading = Reading {
                offset_ms,
                error_ms: 1,
                at,
            };
            seen.readings.insert(node, reading);
        }
    }
    seen.judge(1, &set(n), LIMIT_MS)
}

#[tokio::test]
async fn a_quorum_of_equal_clocks_agrees() {
    let near = Some(900);
    assert_eq!(standing(1, &[]), ClockStanding::Agrees);
    assert_eq!(standing(4, &[near, near, near]), ClockStanding::Agrees);
    assert_eq!(standing(4, &[near, near, None]), ClockStanding::Agrees);
    assert_eq!(standing(4, &[near, None, None]), ClockStanding::Unknown);
    assert_eq!(standing(4, &[None, None, None]), ClockStanding::Unknown);
}

/// One liar of four, or two of seven, never make an honest clock look wrong.
#[tokio::test]
async fn as_many_liars_as_are_tolerated_change_nothing() {
    for lie in [i64::MIN, -THREE_YEARS_MS, THREE_YEARS_MS, i64::MAX] {
        let (near, lie) = (Some(5), Some(lie));
        assert_eq!(standing(4, &[near, near, lie]), ClockStanding::Agrees);
        assert_eq!(standing(4, &[near, None, lie]), ClockStanding::Unknown);
        let seven = [near, near, near, near, lie, lie];
        assert_eq!(standing(7, &seven), ClockStanding::Agrees);
    }
}

#[tokio::test]
async fn a_clock_off_a_quorum_differs_and_says_by_how_much() {
    for far in [-THREE_YEARS_MS, THREE_YEARS_MS] {
        let differs = ClockStanding::Differs { offset_ms: far };
        let (near, off) = (Some(5), Some(far));
        assert_eq!(standing(4, &[off, off, off]), differs);
        assert_eq!(standing(4, &[off, off, None]), differs);
        assert_eq!(standing(4, &[off, off, near]), differs);
        assert_eq!(standing(3, &[off, off]), differs);
        assert_eq!(standing(2, &[off]), differs);
        assert_eq!(standing(7, &[off, off, off, near, near, near]), differs);
    }
}

#[test]
fn no_time_overflows() {
    assert_eq!(distance(0, u64::MAX), i64::MAX);
    assert_eq!(distance(u64::MAX, 0), i64::MIN);
    assert_eq!(distance(5, 3), -2);
}
