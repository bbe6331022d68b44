use lamplighter_types::{
    DeferralPolicy, DeploymentState, Id, Rollout, RolloutCounts, RolloutPlan, RolloutStatus, Scope,
    Selection, StepTimers, codec,
};

use super::{error_gate, keys};

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn rollout(percent: u8, sample: u32, confirmed: u64, failed: u64) -> Rollout {
    let plan = RolloutPlan {
        rollout: id("x"),
        release: id("r"),
        selection: Selection::List {
            devices: vec![id("d")],
        },
        error_percent_max: percent,
        error_sample_min: sample,
        deferral: DeferralPolicy {
            count_max: 0,
            total_ms_max: 0,
        },
        timers: StepTimers {
            offer_ms: 1,
            download_ms: 1,
            install_ms: 1,
            trial_ms: 1,
        },
        retries_max: 0,
    };
    Rollout {
        plan_digest: codec::digest(&plan),
        plan,
        status: RolloutStatus::Running,
        author: id("olga"),
        organization: id("city"),
        approvals: Vec::new(),
        reason: String::new(),
        counts: RolloutCounts {
            active: 1,
            confirmed,
            failed,
            ..RolloutCounts::default()
        },
        counts_at_resume: RolloutCounts::default(),
        districts: vec![Scope::city()],
        cursor: None,
        expanded: true,
        sweep: None,
        swept: false,
        planned_height: 1,
        planned_ms: 1,
        started_ms: None,
        status_height: 1,
    }
}

#[test]
fn the_gate_passes_a_share_up_to_the_limit() {
    let paused = Some(RolloutStatus::PausedByErrors);
    for (percent, sample, confirmed, failed, expected) in [
        (5, 1, 19, 1, None),
        (5, 1, 18, 1, paused),
        (0, 1, 99, 0, None),
        (0, 1, 99, 1, paused),
        (0, 101, 99, 1, None),
        (0, 100, 99, 1, paused),
        (100, 0, 0, 9, None),
        (99, 0, 0, 1, paused),
        (50, 0, 0, 0, None),
    ] {
        let rollout = rollout(percent, sample, confirmed, failed);
        assert_eq!(
            error_gate::status_after(&rollout),
            expected,
            "{percent} {sample} {confirmed} {failed}"
        );
    }
}

#[test]
fn the_last_end_counts_whatever_the_sample() {
    let mut last = rollout(50, 1000, 1, 2);
    last.counts.active = 0;
    assert_eq!(
        error_gate::status_after(&last),
        Some(RolloutStatus::PausedByErrors)
    );
    last.expanded = false;
    assert_eq!(error_gate::status_after(&last), None, "more devices come");
    last.expanded = true;
    last.counts_at_resume = last.counts;
    assert_eq!(
        error_gate::status_after(&last),
        Some(RolloutStatus::Finished)
    );
    last.status = RolloutStatus::Stopping;
    assert_eq!(error_gate::status_after(&last), None, "not yet swept");
    last.swept = true;
    assert_eq!(
        error_gate::status_after(&last),
        Some(RolloutStatus::Stopped)
    );
}

#[test]
fn failures_are_what_the_type_calls_failures() {
    use DeploymentState::*;
    for state in [
        Reverted, Failed, Rejected, TimedOut, Confirmed, Cancelled, Removed, Trial,
    ] {
        let mut counts = RolloutCounts::default();
        *error_gate::count_of(&mut counts, state) += 1;
        assert_eq!(counts.failed == 1, state.is_failure(), "{state:?}");
        assert_eq!(counts.active == 1, !state.is_end(), "{state:?}");
    }
}

#[test]
fn timers_are_in_the_order_of_their_deadlines() {
    let key = |ms, device: &str| keys::timer(ms, &id("zz"), &id(device)).as_bytes().to_vec();
    assert!(key(255, "z") < key(256, "a"));
    assert!(key(256, "a") < key(256, "b"));
    let key = |height| {
        keys::device_rollout(&id("d"), height, &id("zz"))
            .as_bytes()
            .to_vec()
    };
    assert!(key(9) < key(10));
}
