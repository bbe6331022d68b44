use super::super::floors::Floors;
use super::*;

fn device(n: u64) -> Id {
    id(&format!("lamp-{n}"))
}

#[test]
fn floors_are_bounded_and_no_older_proof_is_taken_for_that() {
    let mut floors = Floors::default();
    floors.limit = 10;
    assert!(floors.raise(&device(0), 5));
    assert!(floors.raise(&device(0), 5));
    for n in 1..500 {
        assert!(floors.raise(&device(n), 5 + n));
        // Of all that there ever were, known or forgotten.
        for before in 0..=n {
            assert!(!floors.raise(&device(before), 4 + before));
            assert!(floors.floors.len() <= 10);
        }
    }
}
