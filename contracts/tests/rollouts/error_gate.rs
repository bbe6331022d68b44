use lamplighter_types::*;

use crate::city::{ALL_THE_WAY, City, HOUR_MS, id, plan, whole_city};

use DeploymentState::*;

/// `count` devices, pausing above `percent` of at least `sample` ended ones.
fn gated(count: usize, percent: u8, sample: u32) -> City {
    let mut city = City::with_lamps(count);
    let mut x = plan("x", "r1", whole_city());
    x.error_percent_max = percent;
    x.error_sample_min = sample;
    city.started(&x);
    city
}

fn end(city: &mut City, numbers: std::ops::Range<usize>, success: bool) {
    for n in numbers {
        let lamp = format!("lamp-{n}");
        let way: &[DeploymentState] = if success { &ALL_THE_WAY } else { &[Failed] };
        city.walk("x", &lamp, way);
    }
}

fn status(city: &City) -> RolloutStatus {
    city.rollout("x").status
}

#[test]
fn the_share_of_failures_counts_and_it_must_be_passed() {
    let mut city = gated(30, 5, 10);
    end(&mut city, 0..19, true);
    end(&mut city, 19..20, false);
    assert_eq!(
        status(&city),
        RolloutStatus::Running,
        "1 of 20 is 5 percent"
    );
    end(&mut city, 20..21, false);
    assert_eq!(
        status(&city),
        RolloutStatus::PausedByErrors,
        "2 of 21 is more"
    );
}

#[test]
fn a_sample_is_waited_for() {
    let mut city = gated(30, 0, 10);
    end(&mut city, 0..9, false);
    assert_eq!(status(&city), RolloutStatus::Running);
    end(&mut city, 9..10, true);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
}

#[test]
fn an_error_pause_takes_new_approvals_and_restarts_the_counts() {
    let mut city = gated(10, 50, 2);
    end(&mut city, 0..2, false);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
    assert_eq!(city.step("x", "lamp-5", Offered), Err("rollouts.status"));
    let resume = || RolloutsAction::Resume { rollout: id("x") };
    assert_eq!(
        city.rollouts("olga", resume()),
        Err("rollouts.not_approved_again")
    );
    let x = city.rollout("x").plan;
    assert_eq!(city.approve("olga", &x), Err("forbidden"));
    city.approve("anna", &x).unwrap();
    assert_eq!(
        status(&city),
        RolloutStatus::PausedByErrors,
        "approving alone resumes nothing"
    );
    city.rollouts("olga", resume()).unwrap();
    assert_eq!(status(&city), RolloutStatus::Running);
    end(&mut city, 2..3, false);
    assert_eq!(
        status(&city),
        RolloutStatus::Running,
        "one since then is below the sample"
    );
    end(&mut city, 3..4, false);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
    assert_eq!(
        city.rollouts("olga", resume()),
        Err("rollouts.not_approved_again"),
        "each time"
    );
    let cancel = RolloutsAction::Cancel {
        rollout: id("x"),
        reason: String::new(),
    };
    city.rollouts("olga", cancel).unwrap();
    city.run_until_idle();
    assert_eq!(status(&city), RolloutStatus::Stopped);
}

#[test]
fn silence_counts_as_failure() {
    let mut city = gated(10, 50, 2);
    end(&mut city, 0..2, true);
    city.block(HOUR_MS);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
    let counts = city.rollout("x").counts;
    // The third silent one of five passes the gate; the timers of the rest start again.
    assert_eq!(
        (counts.confirmed, counts.failed, counts.assigned),
        (2, 3, 5)
    );
}

#[test]
fn failures_during_a_pause_count() {
    let mut city = gated(4, 50, 2);
    let pause = RolloutsAction::Pause {
        rollout: id("x"),
        reason: String::new(),
    };
    city.rollouts("olga", pause).unwrap();
    end(&mut city, 0..2, false);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
}
