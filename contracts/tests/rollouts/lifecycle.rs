use lamplighter_types::*;

use crate::city::{ALL_THE_WAY, City, HOUR_MS, id, list, manifest, moves, plan, secret};

use DeploymentState::*;

fn pause(rollout: &str) -> RolloutsAction {
    RolloutsAction::Pause {
        rollout: id(rollout),
        reason: "storm".to_owned(),
    }
}

fn resume(rollout: &str) -> RolloutsAction {
    RolloutsAction::Resume {
        rollout: id(rollout),
    }
}

fn cancel(rollout: &str) -> RolloutsAction {
    RolloutsAction::Cancel {
        rollout: id(rollout),
        reason: "wrong day".to_owned(),
    }
}

#[test]
fn from_assigned_to_confirmed() {
    let mut city = City::with_lamps(1);
    city.started(&plan("x", "r1", list(&["lamp-0"])));
    assert_eq!(city.device_state("lamp-0").active_rollout, Some(id("x")));
    city.walk("x", "lamp-0", &ALL_THE_WAY);
    let state = city.device_state("lamp-0");
    let r1 = manifest("r1");
    assert_eq!(state.version, Some(r1.version));
    assert_eq!(state.digest, Some(r1.artifact));
    assert_eq!(
        (state.release, state.active_rollout),
        (Some(id("r1")), None)
    );
    assert_eq!(
        (state.security_counter, state.confirmed),
        (1, vec![id("r1")])
    );
    let rollout = city.rollout("x");
    assert_eq!(
        (rollout.status, rollout.counts.confirmed),
        (RolloutStatus::Finished, 1)
    );
    let steps = city.deployment("x", "lamp-0").unwrap().steps;
    let by: Vec<Option<&str>> = steps
        .iter()
        .map(|s| s.by.as_ref().map(Id::as_str))
        .collect();
    assert_eq!(by[..2], [None, Some("gw-1")]);
}

#[test]
fn nothing_begins_while_paused_and_no_timer_punishes_the_wait() {
    let mut city = City::with_lamps(2);
    city.started(&plan("x", "r1", list(&["lamp-0", "lamp-1"])));
    city.walk(
        "x",
        "lamp-0",
        &[Offered, Downloading, Downloaded, Installing],
    );
    let early = city.next_report("x", "lamp-1", Offered);
    city.block(1);
    assert_eq!(city.rollouts("nora", resume("x")), Err("rollouts.status"));
    city.rollouts("nora", pause("x")).unwrap();
    assert_eq!(city.rollouts("olga", pause("x")), Err("rollouts.status"));
    assert_eq!(city.step("x", "lamp-1", Offered), Err("rollouts.status"));
    city.block(HOUR_MS);
    // An installing deployment continues, and its silence is a failure; the others wait.
    assert_eq!(city.state_of("x", "lamp-0"), TimedOut);
    assert_eq!(city.state_of("x", "lamp-1"), Assigned);
    // A gateway that offered before it could know of the pause is believed.
    city.send("gw-1", vec![early]).unwrap();
    assert_eq!(
        city.step("x", "lamp-1", Downloading),
        Err("rollouts.status")
    );
    city.rollouts("olga", resume("x")).unwrap();
    city.walk("x", "lamp-1", &ALL_THE_WAY[1..]);
    assert_eq!(city.rollout("x").status, RolloutStatus::Finished);
}

#[test]
fn cancelling_ends_what_is_not_yet_installing() {
    let mut city = City::with_lamps(5);
    city.lamps(5..6, "south", true);
    city.started(&plan(
        "x",
        "r1",
        list(&["lamp-0", "lamp-1", "lamp-2", "lamp-3", "lamp-4"]),
    ));
    city.walk("x", "lamp-1", &ALL_THE_WAY[..3]);
    city.walk("x", "lamp-2", &ALL_THE_WAY[..4]);
    city.walk("x", "lamp-3", &ALL_THE_WAY[..6]);
    city.walk("x", "lamp-4", &ALL_THE_WAY);
    city.rollouts("olga", cancel("x")).unwrap();
    assert_eq!(city.rollouts("olga", cancel("x")), Err("rollouts.status"));
    assert_eq!(city.step("x", "lamp-0", Offered), Err("rollouts.status"));
    let facts = city.run_until_idle();
    assert_eq!(
        moves(&facts),
        [(Some(Assigned), Cancelled), (Some(Downloaded), Cancelled)]
    );
    let postpone = RolloutsAction::Postpone(Postponement {
        rollout: id("x"),
        device: id("lamp-2"),
        until_ms: city.time_ms + 1,
        reason: String::new(),
    });
    assert_eq!(city.rollouts("olga", postpone), Err("rollouts.too_late"));
    assert_eq!(
        city.state_of("x", "lamp-2"),
        Installing,
        "too late: the state is kept"
    );
    assert_eq!(city.rollout("x").status, RolloutStatus::Stopping);
    city.walk("x", "lamp-2", &[Trial, Reverted]);
    let facts = city.step("x", "lamp-3", Confirmed).unwrap();
    assert!(facts.contains(&Fact::RolloutStopped { rollout: id("x") }));
    let counts = city.rollout("x").counts;
    assert_eq!((counts.confirmed, counts.failed, counts.other), (2, 1, 2));
    assert_eq!(city.rollouts("olga", resume("x")), Err("rollouts.status"));
}

#[test]
fn a_plan_that_never_began_is_cancelled_at_once() {
    let mut city = City::with_lamps(1);
    let x = plan("x", "r1", list(&["lamp-0"]));
    city.plan("olga", &x).unwrap();
    city.rollouts("olga", cancel("x")).unwrap();
    assert_eq!(city.rollout("x").status, RolloutStatus::Stopped);
    assert_eq!(city.approve("anna", &x), Err("rollouts.status"));
}

#[test]
fn a_failure_is_retried_as_often_as_planned() {
    let mut city = City::with_lamps(1);
    let mut x = plan("x", "r1", list(&["lamp-0"]));
    x.retries_max = 2;
    city.started(&x);
    for from in [1, 4] {
        city.walk("x", "lamp-0", &ALL_THE_WAY[..from]);
        let facts = city.step("x", "lamp-0", Failed).unwrap();
        assert_eq!(moves(&facts)[0].1, Failed);
        assert_eq!(moves(&facts)[1], (Some(Failed), Assigned));
        assert_eq!(city.rollout("x").counts.failed, 0);
    }
    city.step("x", "lamp-0", Failed).unwrap();
    assert_eq!(city.state_of("x", "lamp-0"), Failed);
    assert_eq!(city.rollout("x").counts.failed, 1);
    assert_eq!(city.device_state("lamp-0").active_rollout, None);
}

#[test]
fn a_trial_that_failed_a_rejection_and_a_gateways_guess_are_not_retried() {
    let mut city = City::with_lamps(3);
    let mut x = plan("x", "r1", list(&["lamp-0", "lamp-1", "lamp-2"]));
    x.retries_max = 9;
    city.started(&x);
    city.walk("x", "lamp-0", &ALL_THE_WAY[..6]);
    city.walk("x", "lamp-0", &[Failed]);
    city.walk("x", "lamp-1", &[Rejected]);
    city.walk("x", "lamp-2", &ALL_THE_WAY[..4]);
    let mut guess = city.next_report("x", "lamp-2", Failed);
    guess.signature = None;
    city.send("gw-1", vec![guess]).unwrap();
    let states = ["lamp-0", "lamp-1", "lamp-2"].map(|lamp| city.state_of("x", lamp));
    assert_eq!(states, [Failed, Rejected, Failed]);
}

#[test]
fn a_newer_version_takes_the_place_of_one_that_has_not_begun_to_install() {
    let mut city = City::with_lamps(3);
    city.released(&manifest("r2"));
    let lamps = || list(&["lamp-0", "lamp-1", "lamp-2"]);
    city.started(&plan("old", "r1", lamps()));
    city.walk("old", "lamp-1", &ALL_THE_WAY[..3]);
    city.walk("old", "lamp-2", &ALL_THE_WAY[..4]);
    city.started(&plan("new", "r2", lamps()));
    let states = ["lamp-0", "lamp-1", "lamp-2"].map(|lamp| city.state_of("old", lamp));
    assert_eq!(states, [Superseded, Superseded, Installing]);
    assert_eq!(city.deployment("new", "lamp-2"), None);
    assert_eq!(city.rollout("new").counts.skipped, 1);
    assert_eq!(city.device_state("lamp-0").active_rollout, Some(id("new")));
    // An older version does not push a newer one aside.
    city.started(&plan("older", "r1", list(&["lamp-0"])));
    assert_eq!(city.rollout("older").counts.skipped, 1);
    assert_eq!(city.state_of("new", "lamp-0"), Assigned);
}

#[test]
fn a_decommissioned_device_leaves_its_rollout() {
    let mut city = City::with_lamps(1);
    city.started(&plan("x", "r1", list(&["lamp-0"])));
    city.walk("x", "lamp-0", &ALL_THE_WAY[..6]);
    let reason = "fell over".to_owned();
    let decommission = DevicesAction::Decommission {
        device: id("lamp-0"),
        reason,
    };
    let facts = city.act("olga", Action::Devices(decommission)).unwrap();
    assert_eq!(moves(&facts), [(Some(Trial), Removed)]);
    assert_eq!(city.rollout("x").status, RolloutStatus::Finished);
    assert_eq!(city.rollout("x").counts.other, 1);
}

#[test]
fn a_late_confirmation_updates_the_device_and_no_count() {
    let mut city = City::with_lamps(1);
    city.started(&plan("x", "r1", list(&["lamp-0"])));
    city.walk("x", "lamp-0", &ALL_THE_WAY[..6]);
    city.block(HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), TimedOut);
    let counts = city.rollout("x").counts;
    assert_eq!(city.step("x", "lamp-0", Trial), Err("rollouts.transition"));
    let mut unsigned = city.next_report("x", "lamp-0", Confirmed);
    unsigned.signature = None;
    assert_eq!(city.send("gw-1", vec![unsigned]), Err("rollouts.unsigned"));
    let facts = city.step("x", "lamp-0", Confirmed).unwrap();
    assert_eq!(
        facts,
        [Fact::InventoryReported {
            digest: manifest("r1").artifact
        }]
    );
    assert_eq!(city.state_of("x", "lamp-0"), TimedOut);
    assert_eq!(city.rollout("x").counts, counts);
    let state = city.device_state("lamp-0");
    assert_eq!((state.release, state.security_counter), (Some(id("r1")), 1));
    let last = city.deployment("x", "lamp-0").unwrap().steps.pop().unwrap();
    assert_eq!(
        (last.to, last.detail.as_str()),
        (TimedOut, "confirmed late: ")
    );
}

#[test]
fn a_thing_that_reverts_to_an_unknown_image_has_drifted() {
    let mut city = City::with_lamps(1);
    city.released(&manifest("r2"));
    city.started(&plan("one", "r1", list(&["lamp-0"])));
    city.walk("one", "lamp-0", &ALL_THE_WAY);
    for (rollout, digest, drifted) in [
        ("two", manifest("r1").artifact, false),
        ("three", Hash::of(b"what is this"), true),
    ] {
        city.started(&plan(rollout, "r2", list(&["lamp-0"])));
        city.walk(rollout, "lamp-0", &ALL_THE_WAY[..6]);
        let mut report = city.next_report(rollout, "lamp-0", Reverted);
        report.digest = Some(manifest("r2").artifact);
        report.sign(&city.chain_id, &secret("lamp-0"));
        assert_eq!(
            city.send("gw-1", vec![report.clone()]),
            Err("rollouts.digest")
        );
        report.digest = Some(digest);
        report.sign(&city.chain_id, &secret("lamp-0"));
        city.send("gw-1", vec![report]).unwrap();
        let state = city.device_state("lamp-0");
        assert_eq!((state.digest, state.drifted), (Some(digest), drifted));
        assert_eq!(state.release, Some(id("r1")), "the confirmed one stays");
    }
}

#[test]
fn the_oldest_deployments_of_a_device_leave_the_state() {
    let kept = limits::DEPLOYMENTS_PER_DEVICE_MAX;
    let mut city = City::with_lamps(1);
    let name = |n: usize| format!("x-{n}");
    for n in 0..kept + 2 {
        city.started(&plan(&name(n), "r1", list(&["lamp-0"])));
        city.rollouts("olga", cancel(&name(n))).unwrap();
        city.run_until_idle();
        assert_eq!(city.rollout(&name(n)).status, RolloutStatus::Stopped);
    }
    let has = |n: usize| city.deployment(&name(n), "lamp-0").is_some();
    let there: Vec<usize> = (0..kept + 2).filter(|n| has(*n)).collect();
    assert_eq!(there, (2..kept + 2).collect::<Vec<_>>());
    let listed = lamplighter_contracts::rollouts::deployments_of_device(
        &city.overlay,
        &id("lamp-0"),
        None,
        100,
    );
    assert_eq!(listed.unwrap().len(), kept);
}

#[test]
fn a_deployment_of_a_rollout_that_has_not_ended_stays() {
    let kept = limits::DEPLOYMENTS_PER_DEVICE_MAX;
    let mut city = City::with_lamps(2);
    // Its other device keeps it from ending.
    city.started(&plan("first", "r1", list(&["lamp-0", "lamp-1"])));
    city.walk("first", "lamp-0", &ALL_THE_WAY[..1]);
    city.step("first", "lamp-0", Rejected).unwrap();
    for n in 0..kept + 2 {
        let name = format!("x-{n}");
        city.started(&plan(&name, "r1", list(&["lamp-0"])));
        city.rollouts("olga", cancel(&name)).unwrap();
        city.run_until_idle();
    }
    assert_eq!(city.state_of("first", "lamp-0"), Rejected);
    assert!(city.deployment("x-0", "lamp-0").is_none());
}
