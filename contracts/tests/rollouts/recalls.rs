//! Stops: by hand, by deadline, by revocation; and what is too late for them.

use lamplighter_contracts::rollouts::{self, DEVICES_SEARCHED_PER_BLOCK_MAX};
use lamplighter_types::*;

use crate::city::{ALL_THE_WAY, City, HOUR_MS, gate, group, grouped, id, whole_city};

use DeploymentState::*;

fn rest() -> Vec<Group> {
    vec![group(GroupMembers::Rest, gate(0, 0, 0))]
}

#[test]
fn one_stop_recalls_all_that_is_not_yet_installing() {
    let mut city = City::with_lamps(600);
    city.started_in_groups(&grouped("x", rest()));
    let way = &ALL_THE_WAY;
    for (lamp, steps) in [("lamp-0", 3), ("lamp-1", 4), ("lamp-2", 6), ("lamp-3", 7)] {
        city.walk("x", lamp, &way[..steps]);
    }
    let (rollout, reason) = (id("x"), "smoke".to_owned());
    city.rollouts("olga", RolloutsAction::Cancel { rollout, reason })
        .unwrap();
    let blocks = blocks_until_idle(&mut city);
    assert!(blocks <= 600 / 256 + 1, "{blocks}");
    for (lamp, state) in [
        ("lamp-0", Cancelled),
        ("lamp-1", Installing),
        ("lamp-2", Trial),
        ("lamp-3", Confirmed),
    ] {
        assert_eq!(city.state_of("x", lamp), state);
    }
    assert_eq!(city.groups("x").too_late, 2);
    let steps = city.deployment("x", "lamp-1").unwrap().steps;
    let last = steps.last().unwrap();
    assert_eq!(last.detail, "too late to recall: smoke");
    assert_eq!(last.to, Installing, "the state is kept");
    assert_eq!(city.rollout("x").counts.other, 597);
    assert_eq!(city.rollout("x").status, RolloutStatus::Stopping);
    city.walk("x", "lamp-1", &way[4..]);
    city.walk("x", "lamp-2", &way[6..]);
    assert_eq!(city.rollout("x").status, RolloutStatus::Stopped);
}

fn blocks_until_idle(city: &mut City) -> usize {
    let mut blocks = 0;
    while rollouts::due_ms(&city.overlay)
        .unwrap()
        .is_some_and(|due| due <= city.time_ms)
    {
        city.block(1);
        blocks += 1;
    }
    blocks
}

#[test]
fn the_stop_deadline_stops_running_and_paused_rollouts() {
    for paused in [false, true] {
        let mut city = City::with_lamps(3);
        let mut plan = grouped("x", rest());
        let stop_ms = city.time_ms + 2 * HOUR_MS / 3;
        plan.stop_ms = Some(stop_ms);
        city.started_in_groups(&plan);
        if paused {
            let (rollout, reason) = (id("x"), String::new());
            city.rollouts("olga", RolloutsAction::Pause { rollout, reason })
                .unwrap();
        }
        city.walk("x", "lamp-2", &[Failed]);
        assert_eq!(rollouts::due_ms(&city.overlay).unwrap(), Some(stop_ms));
        let ms = stop_ms - city.time_ms - 1;
        city.block(ms);
        assert_eq!(city.state_of("x", "lamp-0"), Assigned);
        city.block(1);
        city.run_until_idle();
        assert_eq!(city.state_of("x", "lamp-0"), Cancelled);
        let rollout = city.rollout("x");
        assert_eq!(rollout.status, RolloutStatus::Stopped);
        assert_eq!(rollout.reason, "the stop deadline has come");
        assert_eq!(rollouts::due_ms(&city.overlay).unwrap(), None);
    }
}

#[test]
fn a_rollout_does_not_start_after_its_stop_deadline() {
    let mut city = City::with_lamps(1);
    let mut plan = grouped("x", rest());
    plan.stop_ms = Some(city.time_ms + 1);
    city.plan_groups("olga", &plan).unwrap();
    city.approve_groups("anna", &plan).unwrap();
    city.block(1);
    let rollout = id("x");
    let start = city.rollouts("olga", RolloutsAction::Start { rollout });
    assert_eq!(start, Err("rollouts.stop_passed"));
}

fn named(facts: &[Fact]) -> usize {
    let names = |fact: &&Fact| matches!(fact, Fact::DeviceRunsRevoked { .. });
    facts.iter().filter(names).count()
}

#[test]
fn a_revocation_names_every_device_that_runs_the_release() {
    let fleet = 2 * DEVICES_SEARCHED_PER_BLOCK_MAX + 10;
    let mut city = City::with_lamps(fleet);
    city.set_protocol(2);
    city.started(&crate::city::plan("x", "r1", whole_city()));
    for n in [0, 5, fleet - 1] {
        city.walk("x", &format!("lamp-{n}"), &ALL_THE_WAY);
    }
    let revoke = FirmwareAction::Revoke {
        release: id("r1"),
        reason: "it burns".to_owned(),
    };
    city.firmware("sina", revoke).unwrap();
    let mut facts = Vec::new();
    let mut blocks = 0;
    while rollouts::due_ms(&city.overlay)
        .unwrap()
        .is_some_and(|due| due <= city.time_ms)
    {
        facts.extend(city.block(1));
        blocks += 1;
    }
    assert!(blocks <= fleet / 256 + 1, "{blocks}");
    assert_eq!(named(&facts), 3);
    let traced = Fact::RevocationTraced {
        release: id("r1"),
        devices: 3,
    };
    assert!(facts.contains(&traced));
}

/// Nodes of the first version name nobody, so neither do newer ones before the version is raised.
#[test]
fn the_first_protocol_version_searches_no_devices() {
    let mut city = City::with_lamps(1);
    city.started(&crate::city::plan("x", "r1", whole_city()));
    city.walk("x", "lamp-0", &ALL_THE_WAY);
    let (release, reason) = (id("r1"), String::new());
    city.firmware("sina", FirmwareAction::Revoke { release, reason })
        .unwrap();
    assert_eq!(city.run_until_idle(), []);
}
