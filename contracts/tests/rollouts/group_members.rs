//! The devices of groups: named, counted, shared out, left over, late. And the bound of the work.

use std::collections::BTreeSet;

use lamplighter_contracts::{Reader, rollouts};
use lamplighter_types::limits::STEPS_PER_BLOCK_MAX;
use lamplighter_types::*;

use crate::city::{
    ALL_THE_WAY, City, HOUR_MS, NORTH, canaries, gate, group, grouped, id, moves, scope,
};

use DeploymentState::*;

fn confirm_all(city: &mut City, group: usize) {
    for lamp in city.members("x", group) {
        city.walk("x", &lamp, &ALL_THE_WAY);
    }
    city.run_until_idle();
}

fn tagged(tag: &str) -> Selection {
    Selection::Filter {
        district: Scope::city(),
        model: None,
        hardware_class: None,
        tag: Some(tag.to_owned()),
    }
}

fn all_but_last(members: Vec<GroupMembers>) -> Vec<Group> {
    let mut groups: Vec<_> = members
        .into_iter()
        .map(|members| group(members, gate(100, 1, 0)))
        .collect();
    groups.push(group(GroupMembers::Rest, gate(100, 1, 0)));
    groups
}

#[test]
fn each_device_is_in_the_first_group_that_has_it() {
    let mut city = City::with_lamps(20);
    let named = canaries(&["lamp-7", "lamp-3"]);
    let count = GroupMembers::Count { count: 3 };
    let selection = tagged("ring=1");
    let matching = GroupMembers::Selected { selection };
    let plan = grouped("x", all_but_last(vec![named, count, matching]));
    city.started_in_groups(&plan);
    assert_eq!(city.members("x", 0), ["lamp-3", "lamp-7"]);
    confirm_all(&mut city, 0);
    assert_eq!(city.members("x", 1), ["lamp-0", "lamp-1", "lamp-10"]);
    confirm_all(&mut city, 1);
    let odd: BTreeSet<_> = [5, 9, 11, 13, 15, 17, 19]
        .map(|n| format!("lamp-{n}"))
        .into();
    assert_eq!(BTreeSet::from_iter(city.members("x", 2)), odd);
    confirm_all(&mut city, 2);
    assert_eq!(city.members("x", 3).len(), 20 - 2 - 3 - 7);
    confirm_all(&mut city, 3);
    assert_eq!(city.rollout("x").status, RolloutStatus::Finished);
    assert_eq!(city.rollout("x").counts.confirmed, 20);
}

#[test]
fn shares_do_not_overlap_and_are_about_as_large_as_planned() {
    const FLEET: usize = 2_000;
    let mut city = City::with_lamps(FLEET);
    let percent = |percent| GroupMembers::Percent { percent };
    let plan = grouped("x", all_but_last(vec![percent(5), percent(20)]));
    city.started_in_groups(&plan);
    confirm_all(&mut city, 0);
    confirm_all(&mut city, 1);
    let members: Vec<_> = (0..3).map(|at| city.members("x", at)).collect();
    let sizes: Vec<_> = members.iter().map(Vec::len).collect();
    // Binomial: three standard deviations are 29, 54 and 58 devices.
    assert!((71..130).contains(&sizes[0]), "{sizes:?}");
    assert!((346..455).contains(&sizes[1]), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), FLEET);
    let all: BTreeSet<_> = members.into_iter().flatten().collect();
    assert_eq!(all.len(), FLEET);
}

/// The devices of a group do not depend on when its blocks come.
#[test]
fn another_rollout_has_other_devices_first_and_the_same_one_the_same() {
    let first = |name: &str, blocks_ms: u64| {
        let mut city = City::with_lamps(300);
        let half = GroupMembers::Percent { percent: 50 };
        let mut plan = grouped("x", all_but_last(vec![half]));
        plan.base.rollout = id(name);
        city.plan_groups("olga", &plan).unwrap();
        city.approve_groups("anna", &plan).unwrap();
        let rollout = id(name);
        city.rollouts("olga", RolloutsAction::Start { rollout })
            .unwrap();
        for _ in 0..9 {
            city.block(blocks_ms);
        }
        city.members(name, 0)
    };
    assert_eq!(first("x", 1), first("x", 977));
    assert_ne!(first("x", 1), first("y", 1));
}

#[test]
fn a_group_of_ten_thousand_opens_in_small_steps() {
    const FLEET: usize = 10_000;
    let mut city = City::with_lamps(FLEET);
    city.block(1);
    let one = GroupMembers::Percent { percent: 1 };
    let mut plan = grouped("x", all_but_last(vec![one]));
    plan.groups[0].gate = gate(1, 1, 0);
    city.plan_groups("olga", &plan).unwrap();
    city.approve_groups("anna", &plan).unwrap();
    city.rollouts("olga", RolloutsAction::Start { rollout: id("x") })
        .unwrap();
    let mut blocks = bounded_blocks(&mut city);
    assert!(
        blocks <= FLEET / 1_024 + 2,
        "a block looks at 1,024: {blocks}"
    );
    let lamps = city.members("x", 0);
    for lamp in &lamps {
        city.walk("x", lamp, &ALL_THE_WAY);
    }
    blocks = bounded_blocks(&mut city);
    assert!(blocks <= FLEET / STEPS_PER_BLOCK_MAX + 3, "{blocks}");
    assert_eq!(city.members("x", 1).len(), FLEET - lamps.len());
}

fn bounded_blocks(city: &mut City) -> usize {
    let mut blocks = 0;
    while rollouts::due_ms(&city.overlay)
        .unwrap()
        .is_some_and(|due| due <= city.time_ms)
    {
        let facts = city.block(1);
        assert!(moves(&facts).len() <= STEPS_PER_BLOCK_MAX);
        assert!(city.last_writes <= 6 * STEPS_PER_BLOCK_MAX + 4);
        blocks += 1;
    }
    blocks
}

fn continuous() -> GroupedPlan {
    let first = group(canaries(&["lamp-0"]), gate(100, 1, 1));
    let mut plan = grouped("x", vec![first, group(GroupMembers::Rest, gate(100, 1, 0))]);
    plan.continuous = true;
    plan.base.selection = tagged("ring=0");
    plan
}

fn retag(city: &mut City, device: &str, value: &str) {
    let tags = vec![Tag {
        name: "ring".to_owned(),
        value: value.to_owned(),
    }];
    let device = id(device);
    let action = DevicesAction::Tag { device, tags };
    city.act("olga", Action::Devices(action)).unwrap();
}

#[test]
fn late_devices_wait_for_the_canaries_and_enter_the_next_group_and_its_gate() {
    let mut city = City::with_lamps(4);
    city.started_in_groups(&continuous());
    assert_eq!(city.members("x", 0), ["lamp-0"]);
    city.lamps(4..6, NORTH, true);
    assert_eq!(city.groups("x").late, 1, "lamp-4 matches, lamp-5 does not");
    // A device that was selected before its tags changed keeps its place in a later group.
    retag(&mut city, "lamp-2", "0");
    retag(&mut city, "lamp-1", "0");
    assert_eq!(city.groups("x").late, 2);
    assert_eq!(
        rollouts::due_ms(&city.overlay).unwrap(),
        Some(city.time_ms + HOUR_MS),
        "no block is made for those that wait"
    );
    city.block(1);
    assert_eq!(city.members("x", 0), ["lamp-0"], "people named the canary");
    city.walk("x", "lamp-0", &ALL_THE_WAY);
    city.block(HOUR_MS);
    city.run_until_idle();
    assert_eq!(city.groups("x").late, 0);
    assert_eq!(city.members("x", 1), ["lamp-1", "lamp-2", "lamp-4"]);
    for lamp in ["lamp-1", "lamp-2"] {
        city.walk("x", lamp, &ALL_THE_WAY);
    }
    let last = |city: &City| city.group_statuses("x")[1];
    assert_eq!(last(&city), GroupStatus::Running, "lamp-4 counts");
    city.walk("x", "lamp-4", &ALL_THE_WAY);
    assert_eq!(last(&city), GroupStatus::Passed);
    assert_eq!(
        city.rollout("x").status,
        RolloutStatus::Running,
        "it goes on"
    );
    city.lamps(8..9, NORTH, true);
    city.run_until_idle();
    assert_eq!(
        city.members("x", 1),
        ["lamp-1", "lamp-2", "lamp-4", "lamp-8"]
    );
}

/// Also behind another group, whose devices the late ones would have been.
#[test]
fn late_devices_never_enter_a_group_of_named_devices_or_of_a_number() {
    for exact in [canaries(&["lamp-1"]), GroupMembers::Count { count: 1 }] {
        let mut city = City::with_lamps(3);
        let selection = tagged("ring=0");
        let matching = GroupMembers::Selected { selection };
        let mut plan = grouped("x", all_but_last(vec![matching, exact]));
        plan.continuous = true;
        city.started_in_groups(&plan);
        confirm_all(&mut city, 0);
        assert_eq!(city.members("x", 1), ["lamp-1"]);
        city.lamps(4..6, NORTH, true);
        city.run_until_idle();
        assert_eq!(city.members("x", 1), ["lamp-1"]);
        confirm_all(&mut city, 1);
        assert_eq!(city.members("x", 2), ["lamp-4", "lamp-5"]);
        // If no other group is left, they follow when it has passed.
        let mut city = City::with_lamps(3);
        plan.groups.pop();
        city.started_in_groups(&plan);
        confirm_all(&mut city, 0);
        city.lamps(4..6, NORTH, true);
        city.run_until_idle();
        assert_eq!(city.groups("x").late, 2);
        confirm_all(&mut city, 1);
        assert_eq!(city.groups("x").late, 0);
        // No group has lamp-5.
        assert_eq!(city.members("x", 1), ["lamp-1", "lamp-4"]);
    }
}

/// Whoever belongs to a later group waits for it, so that a share and a number stay what they are.
#[test]
fn late_devices_keep_the_group_that_they_would_have_had() {
    let mut city = City::with_lamps(40);
    let share = GroupMembers::Percent { percent: 20 };
    let count = GroupMembers::Count { count: 8 };
    let mut plan = grouped("x", all_but_last(vec![count, share]));
    plan.continuous = true;
    city.started_in_groups(&plan);
    assert_eq!(city.members("x", 0).len(), 8);
    city.lamps(40..60, NORTH, true);
    city.run_until_idle();
    assert_eq!(city.members("x", 0).len(), 8, "the number is full");
    confirm_all(&mut city, 0);
    let before = city.members("x", 1).len();
    city.lamps(100..300, NORTH, true);
    city.run_until_idle();
    let entered = city.members("x", 1).len() - before;
    // Binomial: three standard deviations are 17 devices.
    assert!((23..58).contains(&entered), "{entered}");
    assert_eq!(city.groups("x").late, 0);
    confirm_all(&mut city, 1);
    let all: usize = (0..3).map(|at| city.members("x", at).len()).sum();
    assert_eq!(all, 260, "the last group finds all others");
}

#[test]
fn late_devices_fill_a_group_of_so_many() {
    let mut city = City::with_lamps(2);
    let members = GroupMembers::Count { count: 4 };
    let mut plan = grouped("x", vec![group(members, gate(100, 4, 0))]);
    plan.continuous = true;
    city.started_in_groups(&plan);
    city.lamps(2..7, NORTH, true);
    city.run_until_idle();
    assert_eq!(city.members("x", 0).len(), 4);
    confirm_all(&mut city, 0);
    assert_eq!(city.groups("x").late, 0);
    assert_eq!(city.members("x", 0).len(), 4, "also when it has passed");
}

/// A group of so many devices has those that can prove something.
#[test]
fn devices_that_run_the_release_already_take_no_place() {
    let mut city = City::with_lamps(6);
    let running_already = ["lamp-0", "lamp-2"];
    for lamp in running_already {
        city.inventory(lamp, "r1");
    }
    let count = GroupMembers::Count { count: 2 };
    city.started_in_groups(&grouped("x", all_but_last(vec![count])));
    assert_eq!(
        city.members("x", 0),
        ["lamp-0", "lamp-1", "lamp-2", "lamp-3"]
    );
    let counts = city.groups("x").groups[0].counts.deployments;
    assert_eq!((counts.assigned, counts.other), (2, 2));
    for lamp in ["lamp-1", "lamp-3"] {
        city.walk("x", lamp, &ALL_THE_WAY);
    }
    city.run_until_idle();
    assert_eq!(city.members("x", 1), ["lamp-4", "lamp-5"]);
}

/// The height of its assignment names the group of a deployment.
#[test]
fn no_device_is_assigned_in_the_block_that_opens_its_group() {
    let mut city = City::with_lamps(1);
    city.started_in_groups(&continuous());
    city.walk("x", "lamp-0", &ALL_THE_WAY);
    city.lamps(4..5, NORTH, true);
    let facts = city.block(HOUR_MS);
    assert!(moves(&facts).is_empty(), "{facts:?}");
    city.run_until_idle();
    assert_eq!(city.members("x", 1), ["lamp-4"]);
    let counts = city.groups("x").groups[1].counts.deployments;
    assert_eq!(counts.assigned, 1);
}

#[test]
fn late_devices_wait_while_the_rollout_is_paused_and_are_forgotten_when_it_stops() {
    let mut city = City::with_lamps(2);
    let mut plan = continuous();
    plan.groups.remove(0);
    city.started_in_groups(&plan);
    let (rollout, reason) = (id("x"), String::new());
    city.rollouts("olga", RolloutsAction::Pause { rollout, reason })
        .unwrap();
    city.lamps(4..5, NORTH, true);
    city.run_until_idle();
    assert_eq!(city.groups("x").late, 1);
    let rollout = id("x");
    city.rollouts("olga", RolloutsAction::Resume { rollout })
        .unwrap();
    city.run_until_idle();
    assert_eq!(city.state_of("x", "lamp-4"), Assigned);
    let reason = String::new();
    let rollout = id("x");
    city.lamps(6..7, NORTH, true);
    city.rollouts("olga", RolloutsAction::Cancel { rollout, reason })
        .unwrap();
    city.run_until_idle();
    assert_eq!(city.groups("x").late, 0);
    assert_eq!(city.deployment("x", "lamp-6"), None);
    assert_eq!(city.rollout("x").status, RolloutStatus::Stopped);
    city.lamps(8..9, NORTH, true);
    assert_eq!(city.groups("x").late, 0, "a stopped rollout takes no more");
}

#[test]
fn a_device_that_gets_a_gateway_or_serves_again_is_late_too() {
    let mut city = City::with_lamps(2);
    let act = |city: &mut City, action| city.act("olga", Action::Devices(action)).unwrap();
    let device = || id("lamp-0");
    let assign = |gateway| DevicesAction::AssignGateway {
        device: device(),
        gateway,
    };
    act(&mut city, assign(None));
    let mut plan = grouped("x", vec![group(GroupMembers::Rest, gate(100, 1, 0))]);
    plan.continuous = true;
    city.started_in_groups(&plan);
    assert_eq!(city.members("x", 0), ["lamp-1"]);
    act(&mut city, assign(Some(id("gw-1"))));
    city.run_until_idle();
    assert_eq!(city.members("x", 0), ["lamp-0", "lamp-1"]);
}

#[test]
fn eight_continuous_rollouts_are_at_work_at_most() {
    let mut city = City::with_lamps(1);
    for n in 0..9 {
        let mut plan = grouped("x", vec![group(GroupMembers::Rest, gate(100, 1, 0))]);
        plan.base.rollout = id(&format!("x-{n}"));
        plan.continuous = true;
        // Each in a main district of its own, which has eight slots.
        plan.base.selection = Selection::Filter {
            district: scope(&format!("d-{n}")),
            model: None,
            hardware_class: None,
            tag: None,
        };
        city.plan_groups("olga", &plan).unwrap();
        city.approve_groups("anna", &plan).unwrap();
        let rollout = plan.base.rollout;
        let started = city.rollouts("olga", RolloutsAction::Start { rollout });
        let expected = (n == 8).then_some("rollouts.too_many_continuous");
        assert_eq!(started.err(), expected, "{n}");
    }
    // One that ends leaves its row, and its place to the next one.
    let continuous = rollouts::keys::continuous();
    assert_eq!(city.overlay.page(&continuous, None, 100).unwrap().len(), 8);
    let (rollout, reason) = (id("x-3"), String::new());
    city.rollouts("olga", RolloutsAction::Cancel { rollout, reason })
        .unwrap();
    assert_eq!(city.overlay.page(&continuous, None, 100).unwrap().len(), 7);
    let rollout = id("x-8");
    city.rollouts("olga", RolloutsAction::Start { rollout })
        .unwrap();
}
