//! Stops: by hand, by deadline, by revocation; and what is too late for them.

use lamplighter_contracts::Reader;
use lamplighter_contracts::rollouts::{self, DEVICES_SEARCHED_PER_BLOCK_MAX};
use lamplighter_types::*;

use crate::city::{
    ALL_THE_WAY, City, HOUR_MS, gate, group, grouped, id, list, manifest, secret, whole_city,
};

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
    let (_, blocks) = facts_until_idle(&mut city);
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

fn facts_until_idle(city: &mut City) -> (Vec<Fact>, usize) {
    let (mut facts, mut blocks) = (Vec::new(), 0);
    while rollouts::due_ms(&city.overlay)
        .unwrap()
        .is_some_and(|due| due <= city.time_ms)
    {
        facts.extend(city.block(1));
        blocks += 1;
    }
    (facts, blocks)
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

/// The last timer of a deployment and the stop deadline may be due in one block.
#[test]
fn the_stop_deadline_leaves_a_rollout_that_has_ended() {
    let mut city = City::with_lamps(1);
    let mut plan = grouped("x", rest());
    let stop_ms = city.time_ms + 2 * HOUR_MS;
    plan.stop_ms = Some(stop_ms);
    city.started_in_groups(&plan);
    city.block(stop_ms - city.time_ms);
    assert_eq!(city.state_of("x", "lamp-0"), TimedOut);
    assert_eq!(city.rollout("x").status, RolloutStatus::Finished);
    assert_eq!(rollouts::due_ms(&city.overlay).unwrap(), None);
    // A plan that was not started, or is cancelled, has no deadline either.
    plan.base.rollout = id("y");
    plan.stop_ms = Some(city.time_ms + HOUR_MS);
    city.plan_groups("olga", &plan).unwrap();
    plan.base.rollout = id("z");
    city.plan_groups("olga", &plan).unwrap();
    let (rollout, reason) = (id("z"), "no".to_owned());
    city.rollouts("olga", RolloutsAction::Cancel { rollout, reason })
        .unwrap();
    assert_eq!(city.block(2 * HOUR_MS), []);
    assert_eq!(city.rollout("y").status, RolloutStatus::PendingApproval);
    assert_eq!(city.rollout("z").status, RolloutStatus::Stopped);
    assert_eq!(city.rollout("z").reason, "no");
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
    let (facts, blocks) = facts_until_idle(&mut city);
    assert!(blocks <= fleet / 256 + 1, "{blocks}");
    assert_eq!(named(&facts), 3);
    let traced = Fact::RevocationTraced {
        release: id("r1"),
        devices: 3,
    };
    assert!(facts.contains(&traced));
}

fn revoke(city: &mut City, release: &str) -> Vec<Fact> {
    let (release, reason) = (id(release), "it burns".to_owned());
    city.firmware("sina", FirmwareAction::Revoke { release, reason })
        .unwrap()
}

fn sweeps(city: &City) -> Vec<RevocationSweep> {
    let sweeps = rollouts::keys::revocation_sweeps();
    city.overlay.page(&sweeps, None, 100).unwrap()
}

/// One person can publish and revoke; without this each such release would cost a walk.
#[test]
fn a_release_that_was_never_released_is_not_searched_for() {
    let mut city = City::with_lamps(1);
    city.set_protocol(2);
    city.publish(&manifest("r2")).unwrap();
    revoke(&mut city, "r2");
    assert_eq!(sweeps(&city), []);
    assert_eq!(rollouts::due_ms(&city.overlay).unwrap(), None);
}

#[test]
fn releases_that_are_revoked_together_share_one_walk() {
    let fleet = 3 * DEVICES_SEARCHED_PER_BLOCK_MAX + 10;
    let mut city = City::with_lamps(fleet);
    city.set_protocol(2);
    for release in ["r2", "r3", "r4"] {
        city.released(&manifest(release));
    }
    // The first device and the last one.
    city.inventory("lamp-0", "r2");
    city.inventory("lamp-999", "r4");
    revoke(&mut city, "r4");
    let mut facts = city.block(1);
    // These come while the walk is under way, and share the next one.
    for release in ["r1", "r2", "r3"] {
        revoke(&mut city, release);
    }
    let (more, blocks) = facts_until_idle(&mut city);
    facts.extend(more);
    assert_eq!(blocks, 3 + 4, "two walks");
    for (release, devices) in [("r1", 0), ("r2", 1), ("r3", 0), ("r4", 1)] {
        let release = id(release);
        assert!(facts.contains(&Fact::RevocationTraced { release, devices }));
    }
    assert_eq!(named(&facts), 2);
    assert_eq!(sweeps(&city), []);
}

/// The search may have passed a device that still installs, was given up or goes back.
#[test]
fn a_device_that_reports_a_revoked_image_after_the_search_is_named() {
    let mut city = City::with_lamps(4);
    city.set_protocol(2);
    city.started(&crate::city::plan("x", "r1", whole_city()));
    for lamp in ["lamp-0", "lamp-1", "lamp-2"] {
        city.walk("x", lamp, &ALL_THE_WAY[..6]);
    }
    revoke(&mut city, "r1");
    let facts = city.step("x", "lamp-0", Confirmed).unwrap();
    assert_eq!(named(&facts), 0, "the search comes to it");
    let (facts, _) = facts_until_idle(&mut city);
    assert_eq!(named(&facts), 1);
    let facts = city.step("x", "lamp-1", Confirmed).unwrap();
    assert_eq!(named(&facts), 1);
    city.block(HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-2"), TimedOut);
    let facts = city.step("x", "lamp-2", Confirmed).unwrap();
    assert_eq!(named(&facts), 1, "it was given up");
    let facts = city.inventory("lamp-3", "r1");
    assert_eq!(named(&facts), 1, "somebody installed it by hand");
    let facts = city.inventory("lamp-3", "r1");
    assert_eq!(named(&facts), 0, "it is known");
    assert_eq!(named(&city.inventory("lamp-3", "r0")), 0);
    // It goes back to the revoked image from the next release.
    city.released(&manifest("r2"));
    city.started(&crate::city::plan("y", "r2", list(&["lamp-3"])));
    city.walk("y", "lamp-3", &ALL_THE_WAY[..6]);
    let mut report = city.next_report("y", "lamp-3", Reverted);
    report.digest = Some(manifest("r1").artifact);
    report.sign(&city.chain_id, &secret("lamp-3"));
    let facts = city.send("gw-1", vec![report]).unwrap();
    assert_eq!(named(&facts), 1);
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
    assert_eq!(named(&city.inventory("lamp-0", "r0")), 0);
    assert_eq!(named(&city.inventory("lamp-0", "r1")), 0);
}
