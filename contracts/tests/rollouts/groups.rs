//! Gates between groups, limits, pauses, approvals of plans in groups.

use lamplighter_contracts::rollouts;
use lamplighter_types::*;

use crate::city::{
    ALL_THE_WAY, City, HOUR_MS, canaries, gate, group, grouped, id, list, scope, whole_city,
};

use DeploymentState::*;
use GroupStatus::{Passed, Ready, Running, Soaking, Waiting};

/// Two canaries that soak for an hour, then the rest.
fn two_groups() -> GroupedPlan {
    let first = group(canaries(&["lamp-0", "lamp-1"]), gate(100, 2, 1));
    grouped("x", vec![first, group(GroupMembers::Rest, gate(50, 1, 0))])
}

fn status(city: &City) -> RolloutStatus {
    city.rollout("x").status
}

fn confirm(city: &mut City, lamps: &[&str]) {
    for lamp in lamps {
        city.walk("x", lamp, &ALL_THE_WAY);
    }
}

fn fail(city: &mut City, lamps: &[&str]) {
    for lamp in lamps {
        city.walk("x", lamp, &[Failed]);
    }
}

fn act(city: &mut City, who: &str, action: RolloutsAction) -> Result<Vec<Fact>, &'static str> {
    city.rollouts(who, action)
}

fn resume(city: &mut City) -> Result<Vec<Fact>, &'static str> {
    act(city, "olga", RolloutsAction::Resume { rollout: id("x") })
}

fn pause(city: &mut City) {
    let reason = String::new();
    let rollout = id("x");
    act(city, "olga", RolloutsAction::Pause { rollout, reason }).unwrap();
}

fn open(city: &mut City, group: u32) -> Result<Vec<Fact>, &'static str> {
    let rollout = id("x");
    act(city, "olga", RolloutsAction::OpenGroup { rollout, group })
}

#[test]
fn a_group_opens_after_success_sample_and_soak() {
    let mut city = City::with_lamps(6);
    city.started_in_groups(&two_groups());
    assert_eq!(city.members("x", 0), ["lamp-0", "lamp-1"]);
    confirm(&mut city, &["lamp-0"]);
    city.block(2 * HOUR_MS / 3);
    assert_eq!(
        city.group_statuses("x"),
        [Running, Waiting],
        "half are not all"
    );
    confirm(&mut city, &["lamp-1"]);
    assert_eq!(city.group_statuses("x"), [Soaking, Waiting]);
    city.block(HOUR_MS - 1);
    assert_eq!(city.group_statuses("x"), [Soaking, Waiting]);
    let due = rollouts::due_ms(&city.overlay).unwrap();
    assert_eq!(
        due,
        Some(city.time_ms + 1),
        "the soak ends on an idle ledger too"
    );
    let facts = city.block(1);
    let rollout = id("x");
    assert!(facts.contains(&Fact::GroupOpened { rollout, group: 1 }));
    assert_eq!(city.members("x", 1).len(), 0, "the next block assigns");
    city.run_until_idle();
    assert_eq!(
        city.members("x", 1),
        ["lamp-2", "lamp-3", "lamp-4", "lamp-5"]
    );
    confirm(&mut city, &["lamp-2", "lamp-3"]);
    assert_eq!(city.group_statuses("x"), [Passed, Passed]);
    assert_eq!(status(&city), RolloutStatus::Running, "two are at work");
    fail(&mut city, &["lamp-4"]);
    confirm(&mut city, &["lamp-5"]);
    assert_eq!(status(&city), RolloutStatus::Finished);
    assert_eq!(rollouts::due_ms(&city.overlay).unwrap(), None);
}

#[test]
fn a_group_below_its_gate_never_opens_the_next_and_is_not_resumed() {
    let mut city = City::with_lamps(4);
    let plan = two_groups();
    city.started_in_groups(&plan);
    confirm(&mut city, &["lamp-0"]);
    fail(&mut city, &["lamp-1"]);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
    assert_eq!(city.group_statuses("x"), [GroupStatus::Failed, Waiting]);
    let reason = city.rollout("x").reason;
    assert_eq!(
        reason,
        "group 1 ended with 1 successes of 2, below 100 % of 2 or more"
    );
    assert_eq!(resume(&mut city), Err("rollouts.not_approved_again"));
    city.approve_groups("anna", &plan).unwrap();
    assert_eq!(resume(&mut city), Err("rollouts.group_failed"));
    assert_eq!(open(&mut city, 1), Err("rollouts.status"));
    city.block(100 * HOUR_MS);
    assert_eq!(city.members("x", 1).len(), 0);
    let (rollout, reason) = (id("x"), "try another way".to_owned());
    act(
        &mut city,
        "olga",
        RolloutsAction::Cancel { rollout, reason },
    )
    .unwrap();
    city.run_until_idle();
    assert_eq!(status(&city), RolloutStatus::Stopped);
}

/// hawkBit opens the next group after one in which everything ended, even failed.
#[test]
fn a_group_without_devices_proves_nothing() {
    let mut city = City::with_lamps(4);
    let act = DevicesAction::Suspend {
        device: id("lamp-0"),
        reason: String::new(),
    };
    let first = group(canaries(&["lamp-0"]), gate(100, 1, 0));
    let plan = grouped("x", vec![first, group(GroupMembers::Rest, gate(50, 1, 0))]);
    city.plan_groups("olga", &plan).unwrap();
    city.act("olga", Action::Devices(act)).unwrap();
    city.approve_groups("anna", &plan).unwrap();
    city.rollouts("olga", RolloutsAction::Start { rollout: id("x") })
        .unwrap();
    city.run_until_idle();
    assert_eq!(city.group_statuses("x"), [GroupStatus::Failed, Waiting]);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
}

/// The canaries may have got the release from a rollout that was cancelled.
#[test]
fn devices_that_run_the_release_already_prove_nothing() {
    let run_already = |lamps: &[&str]| {
        let mut city = City::with_lamps(4);
        for lamp in lamps {
            city.inventory(lamp, "r1");
        }
        city.started_in_groups(&two_groups());
        city
    };
    let mut city = run_already(&["lamp-0", "lamp-1"]);
    assert_eq!(city.state_of("x", "lamp-0"), NotNeeded);
    assert_eq!(city.group_statuses("x"), [GroupStatus::Failed, Waiting]);
    assert_eq!(
        city.rollout("x").reason,
        "group 1 proved nothing: 2 devices run the release already or left, 0 can't install it"
    );
    city.block(10 * HOUR_MS);
    assert_eq!(city.members("x", 1).len(), 0);
    // One success is below the sample of two, as is one that a Thing reports to run already.
    let mut city = run_already(&["lamp-0"]);
    confirm(&mut city, &["lamp-1"]);
    assert_eq!(city.group_statuses("x"), [GroupStatus::Failed, Waiting]);
    let mut city = run_already(&[]);
    confirm(&mut city, &["lamp-1"]);
    city.walk("x", "lamp-0", &[Offered, NotNeeded]);
    assert_eq!(city.group_statuses("x"), [GroupStatus::Failed, Waiting]);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
}

/// The sample may be larger than the group.
#[test]
fn the_last_failures_of_a_group_count_whatever_the_sample() {
    let gates = [gate(50, 1, 0), gate(0, 0, 0)];
    for (silent, gates) in [(false, gates), (true, gates)] {
        let mut city = City::with_lamps(4);
        let first = group(canaries(&["lamp-0", "lamp-1"]), gates[0]);
        let mut plan = grouped("x", vec![first, group(GroupMembers::Rest, gates[1])]);
        plan.base.error_sample_min = 1_000;
        match silent {
            true => plan.limits.silence_percent_max = Some(40),
            false => plan.base.error_percent_max = 40,
        }
        city.started_in_groups(&plan);
        let last_fails = |city: &mut City, lamp| match silent {
            true => drop(city.block(HOUR_MS)),
            false => fail(city, &[lamp]),
        };
        confirm(&mut city, &["lamp-0"]);
        city.run_until_idle();
        assert_eq!(city.members("x", 1), ["lamp-2", "lamp-3"]);
        confirm(&mut city, &["lamp-2"]);
        assert_eq!(status(&city), RolloutStatus::Running, "two are at work");
        city.walk("x", "lamp-3", &[Offered]);
        last_fails(&mut city, "lamp-1");
        assert_eq!(status(&city), RolloutStatus::PausedByErrors);
        city.approve_groups("anna", &plan).unwrap();
        resume(&mut city).unwrap();
        assert_eq!(status(&city), RolloutStatus::Running, "it counts from here");
        last_fails(&mut city, "lamp-3");
        assert_eq!(status(&city), RolloutStatus::PausedByErrors, "not finished");
        city.approve_groups("anna", &plan).unwrap();
        resume(&mut city).unwrap();
        assert_eq!(status(&city), RolloutStatus::Finished);
    }
}

#[test]
fn the_end_of_a_group_is_looked_at_when_a_pause_ends() {
    let mut city = City::with_lamps(2);
    let mut plan = grouped("x", vec![group(GroupMembers::Rest, gate(0, 0, 0))]);
    plan.base.error_sample_min = 1_000;
    plan.base.error_percent_max = 40;
    city.started_in_groups(&plan);
    pause(&mut city);
    fail(&mut city, &["lamp-0", "lamp-1"]);
    assert_eq!(status(&city), RolloutStatus::Paused);
    resume(&mut city).unwrap();
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
}

#[test]
fn a_pause_skips_nothing_and_a_soak_begins_again() {
    let mut city = City::with_lamps(4);
    city.started_in_groups(&two_groups());
    confirm(&mut city, &["lamp-0", "lamp-1"]);
    pause(&mut city);
    city.block(10 * HOUR_MS);
    assert_eq!(city.group_statuses("x"), [Soaking, Waiting], "paused");
    let mut other = City::with_lamps(4);
    let mut plan = two_groups();
    plan.groups[0].gate.soak_ms = 0;
    other.started_in_groups(&plan);
    for lamp in ["lamp-0", "lamp-1"] {
        other.walk("x", lamp, &ALL_THE_WAY[..6]);
    }
    pause(&mut other);
    for lamp in ["lamp-0", "lamp-1"] {
        other.walk("x", lamp, &[Confirmed]);
    }
    assert_eq!(other.group_statuses("x"), [Running, Waiting], "paused");
    resume(&mut other).unwrap();
    assert_eq!(other.group_statuses("x"), [Passed, Running]);
    resume(&mut city).unwrap();
    assert_eq!(
        city.group_statuses("x"),
        [Soaking, Waiting],
        "the soak began again"
    );
    city.block(HOUR_MS);
    assert_eq!(city.group_statuses("x"), [Passed, Running]);
}

#[test]
fn a_group_opens_by_hand_only_behind_its_gate() {
    let mut city = City::with_lamps(4);
    let mut plan = two_groups();
    plan.groups[0].gate.next_by_hand = true;
    city.started_in_groups(&plan);
    assert_eq!(
        open(&mut city, 1),
        Err("rollouts.gate"),
        "nothing has ended"
    );
    confirm(&mut city, &["lamp-0", "lamp-1"]);
    assert_eq!(open(&mut city, 1), Err("rollouts.gate"), "it soaks");
    let facts = city.block(HOUR_MS);
    let ready = Fact::GroupReady {
        rollout: id("x"),
        group: 0,
    };
    assert!(facts.contains(&ready));
    assert_eq!(city.group_statuses("x"), [Ready, Waiting]);
    city.block(10 * HOUR_MS);
    assert_eq!(
        city.group_statuses("x"),
        [Ready, Waiting],
        "a person opens it"
    );
    for (who, group, refused) in [
        ("olga", 0, "rollouts.not_next"),
        ("olga", 2, "rollouts.not_next"),
        ("nora", 1, "forbidden"),
        ("anna", 1, "forbidden"),
    ] {
        let rollout = id("x");
        let got = act(&mut city, who, RolloutsAction::OpenGroup { rollout, group });
        assert_eq!(got, Err(refused), "{who} {group}");
    }
    open(&mut city, 1).unwrap();
    assert_eq!(city.group_statuses("x"), [Passed, Running]);
    city.run_until_idle();
    assert_eq!(city.members("x", 1).len(), 2);
    assert_eq!(
        open(&mut city, 2),
        Err("rollouts.not_next"),
        "there is none"
    );
}

#[test]
fn a_rollout_without_groups_has_none_to_open() {
    let mut city = City::with_lamps(1);
    city.started(&crate::city::plan("x", "r1", whole_city()));
    assert_eq!(open(&mut city, 1), Err("rollouts.no_groups"));
}

#[test]
fn the_limits_count_in_each_group() {
    let limits = |count, silence| PauseLimits {
        error_count_max: count,
        silence_percent_max: silence,
    };
    for (limits, failed, paused) in [
        (limits(Some(1), None), 1, false),
        (limits(Some(1), None), 2, true),
        (limits(Some(0), None), 1, true),
        (limits(None, Some(0)), 2, false),
    ] {
        let mut city = City::with_lamps(12);
        let mut plan = grouped("x", vec![group(GroupMembers::Rest, gate(0, 0, 0))]);
        plan.limits = limits;
        city.started_in_groups(&plan);
        for lamp in ["lamp-0", "lamp-1"].iter().take(failed) {
            fail(&mut city, &[lamp]);
        }
        let expected = match paused {
            true => RolloutStatus::PausedByErrors,
            false => RolloutStatus::Running,
        };
        assert_eq!(status(&city), expected, "{limits:?} {failed}");
    }
}

#[test]
fn silence_pauses_a_rollout_and_new_approvals_resume_it() {
    let mut city = City::with_lamps(10);
    let mut plan = grouped("x", vec![group(GroupMembers::Rest, gate(0, 0, 0))]);
    plan.limits.silence_percent_max = Some(20);
    plan.base.error_sample_min = 5;
    city.started_in_groups(&plan);
    for n in 0..9 {
        city.walk("x", &format!("lamp-{n}"), &[Offered, Downloading]);
    }
    city.block(HOUR_MS - 2);
    confirm_rest(&mut city, 0..4);
    city.block(10);
    let counts = city.groups("x").groups[0].counts;
    assert_eq!(
        counts.timed_out, 2,
        "a pause is no silence of those that wait"
    );
    assert_eq!(counts.deployments.failed, 2);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
    assert_eq!(
        city.rollout("x").reason,
        "group 1: 2 of 6 devices were silent"
    );
    assert_eq!(resume(&mut city), Err("rollouts.not_approved_again"));
    let author = plan.base.rollout.clone();
    let digest = codec::digest(&plan);
    let approve = RolloutsAction::Approve {
        rollout: author,
        plan: digest,
    };
    assert_eq!(act(&mut city, "olga", approve), Err("forbidden"));
    city.approve_groups("anna", &plan).unwrap();
    resume(&mut city).unwrap();
    assert_eq!(status(&city), RolloutStatus::Running, "it counts from here");
}

fn confirm_rest(city: &mut City, numbers: std::ops::Range<usize>) {
    for n in numbers {
        city.walk("x", &format!("lamp-{n}"), &ALL_THE_WAY[2..]);
    }
}

/// A straggler of a group that has passed still counts to the limits.
#[test]
fn failures_of_an_earlier_group_pause_the_rollout() {
    let mut city = City::with_lamps(6);
    let first = group(canaries(&["lamp-0", "lamp-1"]), gate(50, 1, 0));
    let mut plan = grouped("x", vec![first, group(GroupMembers::Rest, gate(50, 1, 0))]);
    plan.limits.error_count_max = Some(0);
    city.started_in_groups(&plan);
    confirm(&mut city, &["lamp-0"]);
    city.run_until_idle();
    assert_eq!(city.group_statuses("x"), [Passed, Running]);
    fail(&mut city, &["lamp-1"]);
    assert_eq!(status(&city), RolloutStatus::PausedByErrors);
    assert_eq!(city.rollout("x").reason, "group 1: 1 deployments failed");
}

#[test]
fn an_unapproved_or_changed_plan_does_not_start() {
    let mut city = City::with_lamps(4);
    let plan = two_groups();
    let start = || RolloutsAction::Start { rollout: id("x") };
    city.plan_groups("ben", &plan).unwrap();
    assert_eq!(act(&mut city, "olga", start()), Err("rollouts.status"));
    assert_eq!(city.approve_groups("ben", &plan), Err("rollouts.own_plan"));
    city.approve_groups("anna", &plan).unwrap();
    // Each part of the plan is under the digest.
    let changes: [fn(&mut GroupedPlan); 9] = [
        |plan| plan.groups[0].gate.success_percent_min = 99,
        |plan| plan.groups[0].gate.soak_ms += 1,
        |plan| plan.groups[0].members = canaries(&["lamp-2"]),
        |plan| plan.limits.error_count_max = Some(3),
        |plan| plan.retry.backoff_ms = 1,
        |plan| plan.stop_ms = Some(9_000_000_000),
        |plan| plan.base.deferral.count_max += 1,
        |plan| plan.base.selection = crate::city::whole_city(),
        |plan| plan.continuous = true,
    ];
    for change in changes {
        let mut other = plan.clone();
        change(&mut other);
        if other == plan {
            continue;
        }
        let refused = city.approve_groups("carl", &other);
        assert_eq!(refused.err(), Some("forbidden"));
        let refused = city.approve_groups("acme", &other);
        assert_eq!(refused.err(), Some("rollouts.other_plan"));
        act(
            &mut city,
            "olga",
            RolloutsAction::Amend {
                plan: other.clone(),
            },
        )
        .unwrap();
        let record = city.rollout("x");
        assert_eq!(record.status, RolloutStatus::PendingApproval);
        assert_eq!(record.approvals, [], "they were for another plan");
        assert_eq!(record.plan_digest, codec::digest(&other));
        assert_eq!(record.author, id("olga"));
        assert_eq!(act(&mut city, "olga", start()), Err("rollouts.status"));
        assert_eq!(
            city.approve_groups("anna", &plan),
            Err("rollouts.other_plan")
        );
        act(
            &mut city,
            "ben",
            RolloutsAction::Amend { plan: plan.clone() },
        )
        .unwrap();
        city.approve_groups("anna", &plan).unwrap();
    }
    act(&mut city, "olga", start()).unwrap();
    let amend = RolloutsAction::Amend { plan };
    assert_eq!(
        act(&mut city, "ben", amend),
        Err("rollouts.status"),
        "it has begun"
    );
}

#[test]
fn a_plan_is_amended_by_operators_of_old_and_new_districts() {
    let mut city = City::with_lamps(2);
    let mut plan = grouped("x", vec![group(GroupMembers::Rest, gate(50, 1, 0))]);
    let north = |text: &str| Selection::Filter {
        district: scope(text),
        model: None,
        hardware_class: None,
        tag: None,
    };
    plan.base.selection = north("north");
    city.plan_groups("nora", &plan).unwrap();
    let mut wider = plan.clone();
    wider.base.selection = north("");
    let amend = RolloutsAction::Amend {
        plan: wider.clone(),
    };
    assert_eq!(act(&mut city, "nora", amend.clone()), Err("forbidden"));
    act(&mut city, "olga", amend).unwrap();
    let back = RolloutsAction::Amend { plan };
    assert_eq!(
        act(&mut city, "nora", back),
        Err("forbidden"),
        "it is the city's now"
    );
}

#[test]
fn a_plan_without_sense_is_refused() {
    let canary = || group(canaries(&["lamp-0"]), gate(100, 1, 0));
    let rest = || group(GroupMembers::Rest, gate(0, 0, 0));
    let of = |members| group(members, gate(100, 1, 0));
    let mut by_hand = rest();
    by_hand.gate.next_by_hand = true;
    let percent = |percent| GroupMembers::Percent { percent };
    let mut open_gate = canary();
    open_gate.gate.sample_min = 0;
    let mut no_success = canary();
    no_success.gate.success_percent_min = 0;
    let mut above = canary();
    above.gate.success_percent_min = 101;
    for (groups, refused) in [
        (vec![], "shape.empty"),
        (vec![canary(); 17], "shape.too_long"),
        (vec![rest(), canary()], "rollouts.group"),
        (vec![canary(), by_hand], "rollouts.group"),
        (vec![open_gate, rest()], "rollouts.group"),
        (vec![no_success, rest()], "rollouts.group"),
        (
            vec![of(GroupMembers::Count { count: 0 }), rest()],
            "rollouts.group",
        ),
        (vec![of(percent(0)), rest()], "rollouts.group"),
        (vec![of(percent(60)), of(percent(41))], "rollouts.shares"),
        (vec![above, rest()], "rollouts.percent"),
        (
            vec![of(canaries(&["lamp-77"])), rest()],
            "rollouts.unknown_device",
        ),
        (
            vec![of(canaries(&["lamp-1"])), rest()],
            "rollouts.named_outside",
        ),
    ] {
        let mut city = City::with_lamps(2);
        let mut plan = grouped("x", groups.clone());
        plan.base.selection = Selection::Filter {
            district: Scope::city(),
            model: None,
            hardware_class: None,
            tag: Some("ring=0".to_owned()),
        };
        assert_eq!(city.plan_groups("olga", &plan), Err(refused), "{groups:?}");
    }
    let mut city = City::with_lamps(2);
    let mut plan = grouped("x", vec![rest()]);
    plan.continuous = true;
    plan.base.selection = list(&["lamp-0"]);
    assert_eq!(
        city.plan_groups("olga", &plan),
        Err("rollouts.continuous_list")
    );
    let mut plan = grouped("x", vec![rest()]);
    plan.limits.silence_percent_max = Some(101);
    assert_eq!(city.plan_groups("olga", &plan), Err("rollouts.percent"));
    let mut plan = grouped("x", vec![rest()]);
    plan.retry.backoff_ms = u64::MAX;
    assert_eq!(city.plan_groups("olga", &plan), Err("rollouts.duration"));
}

#[test]
fn a_plan_in_groups_that_lapses_leaves_nothing() {
    let mut city = City::with_lamps(2);
    city.plan_groups("olga", &two_groups()).unwrap();
    city.block(400 * 24 * HOUR_MS);
    city.released_again("r1");
    let other = grouped("y", vec![group(GroupMembers::Rest, gate(50, 1, 0))]);
    city.plan_groups("olga", &other).unwrap();
    let reader = &city.overlay;
    assert_eq!(rollouts::rollout(reader, &id("x")).unwrap(), None);
    assert_eq!(rollouts::groups(reader, &id("x")).unwrap(), None);
    assert_eq!(rollouts::grouped_plan(reader, &id("x")).unwrap(), None);
}
