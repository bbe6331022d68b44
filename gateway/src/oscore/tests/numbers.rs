use super::super::numbers::{Numbers, NumbersError, STEP};

/// 2026-01-01 and some hours.
fn hours(count: u64) -> u64 {
    1_767_225_600 + 3_600 * count
}

#[test]
fn numbers_begin_at_the_ceiling_that_was_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("numbers.json");
    let (numbers, start) = Numbers::open(&path, hours(0)).unwrap();
    assert_eq!(start, 0);
    numbers.write(STEP).unwrap();
    // The clock has no say while the file is there, not even one that was set back.
    for now in [0, hours(0), hours(50_000)] {
        assert_eq!(Numbers::open(&path, now).unwrap().1, STEP);
    }
    numbers.write(3 * STEP).unwrap();
    assert_eq!(Numbers::open(&path, hours(0)).unwrap().1, 3 * STEP);
}

#[test]
fn a_file_that_is_lost_is_replaced_by_the_clock_and_a_damaged_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("numbers.json");
    assert_eq!(Numbers::open(&path, hours(7_000)).unwrap().1, 7_000 * STEP);
    assert_eq!(Numbers::open(&path, 0).unwrap().1, 0);
    for damaged in ["", "{}", "{\"ceiling\": -1}", "7"] {
        std::fs::write(&path, damaged).unwrap();
        let refused = Numbers::open(&path, hours(0));
        assert!(
            matches!(refused, Err(NumbersError::Malformed { .. })),
            "{damaged}"
        );
    }
    let directory_is_missing = directory.path().join("none/numbers.json");
    let (numbers, _) = Numbers::open(&directory_is_missing, 0).unwrap();
    assert!(matches!(numbers.write(1), Err(NumbersError::Write { .. })));
}
