use super::super::numbers::{Numbers, NumbersError, STEP};
use super::super::option::PartialIv;

/// Some hours after the beginning of 2026.
fn hours(count: u64) -> u64 {
    1_767_225_600_000 + 3_600_000 * count
}

/// What the clock gives by then: 250 a second.
fn by_clock(count: u64) -> u64 {
    900_000 * count
}

#[test]
fn numbers_begin_at_the_ceiling_that_was_left_or_at_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("numbers.json");
    let start = |unix_ms| Numbers::open(&path, unix_ms).unwrap().1;
    // Without a file.
    assert_eq!((start(0), start(hours(0))), (0, 0));
    assert_eq!(start(hours(7_000)), by_clock(7_000));
    let ceiling = by_clock(7_000) + STEP;
    let (numbers, _) = Numbers::open(&path, hours(7_000)).unwrap();
    numbers.write(ceiling).unwrap();
    // A clock that was set back takes no number away, and one that goes on begins above all that
    // was used meanwhile, as far as the file knows of it or not.
    for unix_ms in [0, hours(1), hours(7_000), hours(7_000) + 4 * STEP] {
        assert_eq!(start(unix_ms), ceiling, "{unix_ms}");
    }
    assert_eq!(start(hours(7_000) + 4 * STEP + 4), ceiling + 1);
    assert_eq!(start(hours(7_001)), by_clock(7_001));
}

/// A backup that is put back, with the clock as the only one that knows how late it is.
#[test]
fn an_old_copy_of_the_file_uses_no_number_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("numbers.json");
    let (numbers, start) = Numbers::open(&path, hours(7_000)).unwrap();
    numbers.write(start + STEP).unwrap();
    let copy = std::fs::read(&path).unwrap();
    // An hour in which a hundred messages a second go to one Thing, and two restarts.
    let used = start + 100 * 3_600 + 2 * STEP;
    numbers.write(used.next_multiple_of(STEP)).unwrap();
    std::fs::write(&path, copy).unwrap();
    assert!(Numbers::open(&path, hours(7_001)).unwrap().1 >= used);
    std::fs::remove_file(&path).unwrap();
    assert!(Numbers::open(&path, hours(7_001)).unwrap().1 >= used);
}

#[test]
fn a_damaged_file_and_numbers_without_end_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("numbers.json");
    for damaged in ["", "{}", "{\"ceiling\": -1}", "7"] {
        std::fs::write(&path, damaged).unwrap();
        let refused = Numbers::open(&path, hours(7_000));
        assert!(
            matches!(refused, Err(NumbersError::Malformed { .. })),
            "{damaged}"
        );
    }
    for ceiling in [PartialIv::COUNT, u64::MAX] {
        std::fs::write(&path, format!("{{\"ceiling\": {ceiling}}}")).unwrap();
        let refused = Numbers::open(&path, hours(7_000));
        assert!(matches!(refused, Err(NumbersError::Exhausted { start, .. }) if start == ceiling));
    }
    // A clock of the year 2200 spoils nothing.
    std::fs::remove_file(&path).unwrap();
    let refused = Numbers::open(&path, 7_258_118_400_000);
    assert!(matches!(refused, Err(NumbersError::Exhausted { .. })));
    assert!(!path.exists());
    let directory_is_missing = directory.path().join("none/numbers.json");
    let (numbers, _) = Numbers::open(&directory_is_missing, 0).unwrap();
    assert!(matches!(numbers.write(1), Err(NumbersError::Write { .. })));
}
