use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::limits::EVENT_GAPS_MAX;
use lamplighter_types::{EventCursor, EventGap, Id};
use proptest::prelude::*;

use super::cursor::{self, SequenceOrder, empty};
use super::{EventsError, KINDS, SEQUENCE_JUMP_MAX, is_kind};
use crate::tests::city::id;

#[derive(serde::Deserialize)]
struct Vocabulary {
    groups: BTreeMap<String, Vec<String>>,
}

#[test]
fn the_vocabulary_is_that_of_the_file() {
    let text = include_str!("../../../tests/data/event-kinds.json");
    let Vocabulary { groups } = serde_json::from_str(text).unwrap();
    let names: BTreeSet<&str> = groups.values().flatten().map(String::as_str).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), KINDS);
}

#[test]
fn other_kinds_have_a_prefix() {
    assert!(is_kind("deviceReset"));
    assert!(is_kind("x-moth.count_1-A"));
    let long = format!("x-{}", "a".repeat(63));
    for bad in [
        "",
        "x-",
        "y-moth",
        "devicereset",
        "x-moth count",
        "x-möth",
        "x-a/b",
        &long,
    ] {
        assert!(!is_kind(bad), "{bad}");
    }
}

fn accept(
    cursor: &mut EventCursor,
    device: &Id,
    sequence: u64,
) -> Result<SequenceOrder, EventsError> {
    cursor::accept(cursor, device, sequence, SEQUENCE_JUMP_MAX)
}

fn taken(numbers: &[u64]) -> EventCursor {
    let mut cursor = empty();
    for number in numbers {
        accept(&mut cursor, &id("lamp-1"), *number).unwrap();
    }
    cursor
}

#[test]
fn late_numbers_shrink_part_and_close_a_gap() {
    let mut cursor = taken(&[1, 6]);
    let name = id("lamp-1");
    assert_eq!(cursor.gaps, [EventGap { first: 2, last: 5 }]);
    assert_eq!(accept(&mut cursor, &name, 3), Ok(SequenceOrder::Late));
    assert_eq!(
        cursor.gaps,
        [
            EventGap { first: 2, last: 2 },
            EventGap { first: 4, last: 5 }
        ]
    );
    assert_eq!(accept(&mut cursor, &name, 5), Ok(SequenceOrder::Late));
    assert_eq!(accept(&mut cursor, &name, 4), Ok(SequenceOrder::Late));
    assert_eq!(accept(&mut cursor, &name, 2), Ok(SequenceOrder::Late));
    assert_eq!(
        cursor,
        EventCursor {
            highest: 6,
            count: 6,
            gaps: Vec::new()
        }
    );
    assert_eq!(accept(&mut cursor, &name, 7), Ok(SequenceOrder::Next));
}

#[test]
fn a_gap_made_of_two_takes_nothing_any_more() {
    let gaps = EVENT_GAPS_MAX as u64 + 1;
    let mut cursor = taken(&(1..=gaps).map(|n| n * 2).collect::<Vec<_>>());
    let name = id("lamp-1");
    assert_eq!(cursor.gaps.len(), EVENT_GAPS_MAX);
    assert_eq!(cursor.gaps[0], EventGap { first: 1, last: 3 });
    for closed in 1..=3 {
        assert!(accept(&mut cursor, &name, closed).is_err(), "{closed}");
    }
    assert_eq!(accept(&mut cursor, &name, 5), Ok(SequenceOrder::Late));
    assert!(accept(&mut cursor, &name, 2).is_err());
}

proptest! {
    #[test]
    fn no_number_is_accepted_twice_and_gaps_hold_the_missing_ones(
        numbers in prop::collection::vec(1_u64..120, 0..200)
    ) {
        let mut cursor = empty();
        let mut used = BTreeSet::new();
        for number in numbers {
            if accept(&mut cursor, &id("lamp-1"), number).is_ok() {
                prop_assert!(used.insert(number), "{} twice", number);
            }
            prop_assert!(cursor.gaps.len() <= EVENT_GAPS_MAX);
            prop_assert_eq!(cursor.count, used.len() as u64);
            prop_assert_eq!(Some(cursor.highest), used.last().copied().or(Some(0)));
            let in_gap = |n: u64| cursor.gaps.iter().any(|g| (g.first..=g.last).contains(&n));
            let missing = (1..cursor.highest).filter(|n| !used.contains(n));
            for number in missing {
                prop_assert!(in_gap(number), "{} is in no gap", number);
            }
            let ordered = cursor.gaps.windows(2).all(|pair| pair[0].last + 1 < pair[1].first);
            prop_assert!(ordered);
        }
    }
}
