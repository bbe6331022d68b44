//! Mistakes of other systems, one test each.

use lamplighter_contracts::rollouts::DEPLOYMENT_STEPS_MAX;
use lamplighter_types::*;

use crate::city::{ALL_THE_WAY, City, HOUR_MS, id, list, manifest, plan, whole_city};

use DeploymentState::*;

/// hawkBit: a group in which everything ended, even failed, starts the next one.
#[test]
fn a_rollout_in_which_everything_ended_badly_does_not_finish() {
    let mut city = City::with_lamps(2);
    let mut x = plan("x", "r1", whole_city());
    x.error_percent_max = 50;
    x.error_sample_min = 1000;
    city.started(&x);
    city.walk("x", "lamp-0", &[Failed]);
    assert_eq!(city.rollout("x").status, RolloutStatus::Running);
    city.walk("x", "lamp-1", &[Failed]);
    assert_eq!(city.rollout("x").status, RolloutStatus::PausedByErrors);
    city.approve("anna", &x).unwrap();
    city.rollouts("olga", RolloutsAction::Resume { rollout: id("x") })
        .unwrap();
    assert_eq!(
        city.rollout("x").status,
        RolloutStatus::Finished,
        "after people have looked"
    );
}

/// hawkBit: resuming after an error pause goes straight to the next group.
#[test]
fn resuming_continues_the_expansion() {
    let mut city = City::with_lamps(600);
    let mut x = plan("x", "r1", whole_city());
    x.error_percent_max = 0;
    city.plan("olga", &x).unwrap();
    city.approve("anna", &x).unwrap();
    city.rollouts("olga", RolloutsAction::Start { rollout: id("x") })
        .unwrap();
    city.block(1);
    let first = city.rollout("x").cursor.unwrap();
    city.walk("x", first.as_str(), &[Failed]);
    assert_eq!(city.rollout("x").status, RolloutStatus::PausedByErrors);
    city.run_until_idle();
    assert_eq!(
        city.rollout("x").cursor,
        Some(first),
        "nobody is assigned meanwhile"
    );
    city.approve("anna", &x).unwrap();
    city.rollouts("olga", RolloutsAction::Resume { rollout: id("x") })
        .unwrap();
    city.run_until_idle();
    let counts = city.rollout("x").counts;
    assert_eq!(
        (counts.assigned, counts.failed),
        (599, 1),
        "each device once, none left out"
    );
}

/// hawkBit: a documented absolute error count is parsed as a percentage.
#[test]
fn the_sample_is_a_count_and_the_threshold_a_share() {
    let mut city = City::with_lamps(12);
    let mut x = plan("x", "r1", whole_city());
    x.error_percent_max = 10;
    x.error_sample_min = 10;
    city.started(&x);
    (0..9).for_each(|n| city.walk("x", &format!("lamp-{n}"), &ALL_THE_WAY));
    city.walk("x", "lamp-9", &[Failed]);
    assert_eq!(city.rollout("x").status, RolloutStatus::Running, "1 of 10");
    city.walk("x", "lamp-10", &[Failed]);
    assert_eq!(
        city.rollout("x").status,
        RolloutStatus::PausedByErrors,
        "2 of 11"
    );
}

/// hawkBit #3185 and others: success is recorded before the new image has booted.
#[test]
fn only_the_new_image_confirms() {
    let mut city = City::with_lamps(1);
    city.started(&plan("x", "r1", whole_city()));
    for to in &ALL_THE_WAY[..6] {
        city.step("x", "lamp-0", *to).unwrap();
        assert_eq!(city.rollout("x").counts.confirmed, 0, "{to:?}");
        assert_eq!(city.device_state("lamp-0").release, None, "{to:?}");
        assert_eq!(city.device_state("lamp-0").security_counter, 0, "{to:?}");
        if *to != Trial {
            assert_eq!(
                city.step("x", "lamp-0", Confirmed),
                Err("rollouts.transition"),
                "{to:?}"
            );
        }
    }
    city.walk("x", "lamp-0", &[Reverted]);
    assert_eq!(city.rollout("x").counts.failed, 1);
    assert_eq!(city.device_state("lamp-0").release, None);
}

/// hawkBit #693: without a timeout a bricked device stays "proceeding" for ever and no threshold
/// fires.
#[test]
fn a_bricked_device_times_out_in_every_step() {
    for steps in 0..ALL_THE_WAY.len() {
        let mut city = City::with_lamps(2);
        let mut x = plan("x", "r1", whole_city());
        x.error_percent_max = 0;
        city.started(&x);
        city.walk("x", "lamp-0", &ALL_THE_WAY[..steps]);
        city.block(HOUR_MS);
        assert_eq!(
            city.state_of("x", "lamp-0"),
            TimedOut,
            "after {steps} steps"
        );
        assert_eq!(city.rollout("x").status, RolloutStatus::PausedByErrors);
        assert_eq!(
            city.device_state("lamp-0").active_rollout,
            None,
            "free for the next one"
        );
    }
}

/// hawkBit #1249, #1321: a quota of status entries swallows the final report.
#[test]
fn the_final_report_is_taken_however_long_the_history() {
    let mut city = City::with_lamps(1);
    let mut x = plan("x", "r1", whole_city());
    x.retries_max = 40;
    city.started(&x);
    for _ in 0..40 {
        city.walk("x", "lamp-0", &[Offered, Downloading, Failed]);
    }
    let mut long = city.next_report("x", "lamp-0", Failed);
    long.signature = None;
    long.detail = "ü".repeat(500);
    city.send("gw-1", vec![long]).unwrap();
    let deployment = city.deployment("x", "lamp-0").unwrap();
    assert_eq!(deployment.state, Failed);
    assert_eq!(deployment.steps.len(), DEPLOYMENT_STEPS_MAX);
    assert_eq!(deployment.steps[0].to, Assigned);
    let last = deployment.steps.last().unwrap();
    assert_eq!(
        (last.to, last.detail.len()),
        (Failed, 256),
        "the text is cut, not refused"
    );
}

/// hawkBit #952, #1318: cancelling sticks, because it waits for the device.
#[test]
fn cancelling_needs_no_answer_and_leaves_the_device_free() {
    let mut city = City::with_lamps(1);
    city.released(&manifest("r2"));
    city.started(&plan("x", "r1", whole_city()));
    city.walk("x", "lamp-0", &[Offered, Downloading]);
    let cancel = RolloutsAction::Cancel {
        rollout: id("x"),
        reason: String::new(),
    };
    city.rollouts("olga", cancel).unwrap();
    city.run_until_idle();
    assert_eq!(city.rollout("x").status, RolloutStatus::Stopped);
    city.started(&plan("y", "r2", list(&["lamp-0"])));
    assert_eq!(city.state_of("y", "lamp-0"), Assigned);
    assert_eq!(
        city.step("x", "lamp-0", Downloaded),
        Err("rollouts.transition")
    );
    city.walk("y", "lamp-0", &ALL_THE_WAY);
}

/// A failed report after the commit triggers a rollback.
#[test]
fn a_report_that_is_refused_or_comes_too_late_does_not_undo_a_confirmation() {
    let mut city = City::with_lamps(1);
    city.started(&plan("x", "r1", whole_city()));
    city.walk("x", "lamp-0", &ALL_THE_WAY);
    for to in [Failed, Reverted, Rejected, Confirmed] {
        assert_eq!(city.step("x", "lamp-0", to), Err("rollouts.transition"));
    }
    city.block(10 * HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), Confirmed);
    assert_eq!(city.device_state("lamp-0").release, Some(id("r1")));
    assert_eq!(city.rollout("x").status, RolloutStatus::Finished);
}
