//! Tests of links and times, without processes.

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::history::{History, ReceiptPosition, SubmitAnswer, TimedAnswer, WriteRecord};
use crate::links::{LinkState, Links, SHAPES, Shape};
use crate::report::Resumptions;
use crate::timeline::{LeaderLoss, LossKind, Timeline};
use lamplighter_types::Hash;

const UP: [bool; 4] = [true; 4];

fn write(invoked_us: u64, at_us: u64) -> WriteRecord {
    let place = ReceiptPosition {
        height: 1,
        index: 0,
        receipt: Hash::ZERO,
        succeeded: true,
    };
    WriteRecord {
        transaction: Hash::ZERO,
        invoked_us,
        expires_ms: 0,
        answers: vec![TimedAnswer {
            at_us,
            answer: SubmitAnswer::Receipt(place),
        }],
    }
}

fn acknowledged(times: &[(u64, u64)]) -> History {
    History {
        writes: times.iter().map(|(from, to)| write(*from, *to)).collect(),
        reads: Vec::new(),
    }
}

#[test]
fn a_majority_is_three_of_four_that_hear_each_other() {
    let whole = Links::whole(4);
    assert!(whole.majority(&UP));
    assert!(whole.majority(&[true, false, true, true]));
    assert!(!whole.majority(&[true, false, false, true]));
}

#[test]
fn each_shape_leaves_the_expected_majority() {
    let mut rng = StdRng::seed_from_u64(1);
    for shape in SHAPES {
        for leader in 0..4 {
            let links = shape.links(4, leader, &mut rng);
            let majority_left = !matches!(shape, Shape::Halves | Shape::Ring | Shape::Lossy);
            // Only these shapes leave no majority.
            assert_eq!(links.majority(&UP), majority_left, "{shape:?}");
            assert_ne!(links, Links::whole(4), "{shape:?}");
        }
    }
}

#[test]
fn a_deaf_leader_only_sends_and_a_mute_one_only_receives() {
    let mut rng = StdRng::seed_from_u64(1);
    let deaf = Shape::LeaderDeaf.links(4, 2, &mut rng);
    assert_eq!(deaf.between(0, 2), LinkState::Cut);
    assert_eq!(deaf.between(2, 0), LinkState::Whole);
    let mute = Shape::LeaderMute.links(4, 2, &mut rng);
    assert_eq!(mute.between(0, 2), LinkState::Whole);
    assert_eq!(mute.between(2, 0), LinkState::Cut);
}

#[test]
fn only_the_time_with_a_majority_counts_as_an_outage() {
    let history = acknowledged(&[(0, 10), (90, 95), (95, 100), (100, 130)]);
    let mut timeline = Timeline {
        ended_us: 140,
        ..Timeline::default()
    };
    timeline.note_majority(0, true);
    let outage = timeline.outages(&history)[0];
    assert_eq!((outage.from_us, outage.length_us), (10, 85));
    timeline.note_majority(11, false);
    timeline.note_majority(11, false);
    timeline.note_majority(90, true);
    let outage = timeline.outages(&history)[0];
    assert_eq!((outage.from_us, outage.length_us), (100, 30));
}

#[test]
fn service_has_resumed_when_something_sent_after_the_loss_is_acknowledged() {
    // Sent before the loss of the leader and answered after it: perhaps decided before.
    let history = acknowledged(&[(40, 55), (60, 90)]);
    let mut timeline = Timeline {
        ended_us: 200,
        ..Timeline::default()
    };
    timeline.note_majority(0, true);
    timeline.losses.push(LeaderLoss {
        at_us: 50,
        node: 1,
        how: LossKind::Killed,
    });
    let resumptions = timeline.resumptions(&history);
    assert_eq!(resumptions.len(), 1);
    assert_eq!(resumptions[0].after_us, 40);
    assert_eq!(Resumptions::of(&resumptions, LossKind::Killed).count, 1);
    assert_eq!(Resumptions::of(&resumptions, LossKind::Stopped).count, 0);
    // A second node was lost too: there is no result.
    timeline.note_majority(70, false);
    timeline.note_majority(80, true);
    assert!(timeline.resumptions(&history).is_empty());
}
