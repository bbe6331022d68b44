use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::newest_head::{NewestHead, NewestHeadError};

const GENESIS_MS: u64 = 1_700_000_000_000;
const NOW_MS: u64 = 1_790_000_000_000;

fn open(dir: &tempfile::TempDir) -> NewestHead {
    NewestHead::open(dir.path().join("newest-head.json"), GENESIS_MS).unwrap()
}

#[test]
fn the_newest_head_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut head, now) = (open(&dir), Instant::now());
    assert_eq!((head.height(), head.time_ms(0)), (0, GENESIS_MS));
    head.observe(9, NOW_MS, NOW_MS);
    head.observe(8, NOW_MS + 5, NOW_MS);
    head.save_if_due(now);
    head.observe(10, NOW_MS + 1_000, NOW_MS);
    head.save_if_due(now + Duration::from_secs(9));
    assert_eq!(open(&dir).height(), 9, "not at each head");
    head.save_if_due(now + Duration::from_secs(10));
    let head = open(&dir);
    assert_eq!(head.height(), 10);
    assert_eq!(
        head.time_ms(NOW_MS - 3_600_000),
        NOW_MS + 1_000,
        "a clock that goes back makes nothing recent again"
    );
    assert_eq!(head.time_ms(NOW_MS + 5_000), NOW_MS + 5_000);
}

#[test]
fn a_clock_before_the_newest_head_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let (mut head, now) = (open(&dir), Instant::now());
    assert!(!head.is_clock_set(0, now), "1970 is before the genesis");
    assert!(head.is_clock_set(GENESIS_MS - 60_000, now));
    head.observe(9, NOW_MS, NOW_MS);
    assert!(!head.is_clock_set(NOW_MS - 61_000, now));
    assert!(head.is_clock_set(NOW_MS - 60_000, now));
}

#[test]
fn a_head_far_ahead_of_the_clock_is_not_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = open(&dir);
    head.observe(9, NOW_MS + 61_000, NOW_MS);
    assert_eq!(head.height(), 0);
    head.observe(9, NOW_MS + 60_000, NOW_MS);
    assert_eq!(head.height(), 9);
}

#[test]
fn a_damaged_file_stops_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("newest-head.json");
    for damaged in ["", "{}", r#"{"height":1,"time_ms":2,"more":3}"#] {
        std::fs::write(&path, damaged).unwrap();
        let opened = NewestHead::open(path.clone(), GENESIS_MS);
        assert!(matches!(opened, Err(NewestHeadError::Malformed { .. })));
    }
}
