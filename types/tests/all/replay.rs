//! The replay window against a model that keeps every number.

use std::collections::BTreeSet;

use lamplighter_types::limits::{NUMBER_MAX, REPLAY_WINDOW};
use lamplighter_types::{ReplayWindow, SequenceError, codec};
use proptest::prelude::*;

const JUMP_MAX: u64 = 1 << 32;

#[derive(Default)]
struct Model(BTreeSet<u64>);

impl Model {
    fn mark(&mut self, sequence: u64) -> Result<(), SequenceError> {
        let highest = self.0.last().copied().unwrap_or(0);
        if sequence == 0 || sequence > NUMBER_MAX {
            return Err(SequenceError::OutOfRange);
        }
        if sequence > highest && sequence - highest > JUMP_MAX {
            return Err(SequenceError::TooFar { sequence, highest });
        }
        if u128::from(sequence) + u128::from(REPLAY_WINDOW) <= u128::from(highest) {
            let lowest = highest - REPLAY_WINDOW + 1;
            return Err(SequenceError::TooOld { sequence, lowest });
        }
        match self.0.insert(sequence) {
            true => Ok(()),
            false => Err(SequenceError::Used { sequence }),
        }
    }
}

/// Numbers near the last one, on the edges of the window, and anywhere.
fn steps() -> impl Strategy<Value = Vec<(u8, u64)>> {
    prop::collection::vec((0u8..6, 0..3 * REPLAY_WINDOW), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_window_does_what_a_full_memory_does(steps in steps()) {
        let (mut window, mut model) = (ReplayWindow::default(), Model::default());
        for (kind, number) in steps {
            let highest = window.highest();
            let sequence = match kind {
                0 | 1 => highest.saturating_add(number % 5),
                2 => highest.saturating_sub(number),
                3 => highest.saturating_add(number),
                4 => highest.saturating_sub(REPLAY_WINDOW - 1).saturating_add(number % 3),
                _ => highest.saturating_add(JUMP_MAX - 1 + number % 4),
            };
            let before = window;
            let result = window.mark(sequence);
            prop_assert_eq!(result, model.mark(sequence));
            prop_assert_eq!(result, before.check(sequence));
            if result.is_err() {
                prop_assert_eq!(window, before);
            }
        }
    }
}

#[test]
fn a_key_can_send_the_whole_window_backwards() {
    let mut window = ReplayWindow::default();
    for sequence in (1..=REPLAY_WINDOW).rev() {
        window.mark(sequence).unwrap();
    }
    for sequence in 1..=REPLAY_WINDOW {
        assert_eq!(window.mark(sequence), Err(SequenceError::Used { sequence }));
    }
    window.mark(REPLAY_WINDOW + 1).unwrap();
    let too_old = SequenceError::TooOld {
        sequence: 1,
        lowest: 2,
    };
    assert_eq!(window.mark(1), Err(too_old));
}

#[test]
fn the_ends_of_the_range_are_refused() {
    let window: ReplayWindow =
        codec::decode(&codec::encode(&(NUMBER_MAX - 1, [0u64; 16]))).unwrap();
    assert_eq!(window.check(0), Err(SequenceError::OutOfRange));
    assert_eq!(window.check(u64::MAX), Err(SequenceError::OutOfRange));
    assert_eq!(window.check(NUMBER_MAX + 1), Err(SequenceError::OutOfRange));
    assert_eq!(window.check(NUMBER_MAX), Ok(()));
}
