//! The work of one block is bounded, whatever the size of the fleet.

use lamplighter_contracts::rollouts;
use lamplighter_types::limits::STEPS_PER_BLOCK_MAX;
use lamplighter_types::*;

use crate::city::{City, HOUR_MS, id, moves, plan, whole_city};

const FLEET: usize = 10_000;
/// A step writes the deployment, its timer (old and new), the device's state and an index.
const WRITES_PER_STEP: usize = 6;

/// Makes blocks until nothing is due; returns how many, after a look at each.
fn blocks(city: &mut City, to: DeploymentState) -> usize {
    let mut blocks = 0;
    while rollouts::due_ms(&city.overlay)
        .unwrap()
        .is_some_and(|due| due <= city.time_ms)
    {
        let facts = city.block(1);
        assert!(moves(&facts).len() <= STEPS_PER_BLOCK_MAX);
        assert!(moves(&facts).iter().all(|(_, reached)| *reached == to));
        assert!(city.last_writes <= WRITES_PER_STEP * STEPS_PER_BLOCK_MAX + 2);
        blocks += 1;
    }
    blocks
}

#[test]
fn ten_thousand_devices_are_assigned_timed_out_and_cancelled_in_small_steps() {
    let mut city = City::with_lamps(FLEET);
    city.block(1);
    let expected = FLEET / STEPS_PER_BLOCK_MAX + 1;
    for (rollout, ends_by_time) in [("first", true), ("second", false)] {
        let plan = plan(rollout, "r1", whole_city());
        city.plan("olga", &plan).unwrap();
        city.approve("anna", &plan).unwrap();
        city.rollouts(
            "olga",
            RolloutsAction::Start {
                rollout: id(rollout),
            },
        )
        .unwrap();
        assert_eq!(blocks(&mut city, DeploymentState::Assigned), expected);
        assert_eq!(city.rollout(rollout).counts.assigned, FLEET as u64);
        if ends_by_time {
            city.time_ms += HOUR_MS;
            assert_eq!(blocks(&mut city, DeploymentState::TimedOut), expected);
            assert_eq!(city.rollout(rollout).counts.failed, FLEET as u64);
            assert_eq!(city.rollout(rollout).status, RolloutStatus::Finished);
        } else {
            let revoke = FirmwareAction::Revoke {
                release: id("r1"),
                reason: String::new(),
            };
            assert_eq!(city.firmware("sina", revoke).unwrap().len(), 2);
            assert_eq!(blocks(&mut city, DeploymentState::Cancelled), expected);
            assert_eq!(city.rollout(rollout).counts.other, FLEET as u64);
            assert_eq!(city.rollout(rollout).status, RolloutStatus::Stopped);
        }
    }
    assert_eq!(rollouts::due_ms(&city.overlay).unwrap(), None);
    city.block(1);
    assert_eq!(city.last_writes, 0, "an idle block writes nothing");
}

#[test]
fn a_filter_that_matches_little_looks_at_a_bounded_number_too() {
    let mut city = City::with_lamps(1000);
    let mut x = plan("x", "r1", whole_city());
    x.selection = Selection::Filter {
        district: Scope::city(),
        model: Some("nothing like it".to_owned()),
        hardware_class: None,
        tag: None,
    };
    city.plan("olga", &x).unwrap();
    city.approve("anna", &x).unwrap();
    city.rollouts("olga", RolloutsAction::Start { rollout: id("x") })
        .unwrap();
    let mut blocks = 0;
    while city.rollout("x").status == RolloutStatus::Running {
        city.block(1);
        blocks += 1;
    }
    assert_eq!(blocks, 1000 / STEPS_PER_BLOCK_MAX + 1);
}
