use lamplighter_contracts::rollouts::{self, slots};
use lamplighter_types::*;

use crate::city::{City, HOUR_MS, NORTH, id, lamp, list, manifest, plan, scope, whole_city};

fn start(rollout: &str) -> RolloutsAction {
    RolloutsAction::Start {
        rollout: id(rollout),
    }
}

#[test]
fn the_exact_plan_is_approved_by_another_person() {
    let mut city = City::with_lamps(1);
    let plan = plan("x", "r1", whole_city());
    city.plan("ben", &plan).unwrap();
    assert_eq!(city.plan("ben", &plan), Err("rollouts.exists"));
    assert_eq!(city.rollouts("ben", start("x")), Err("rollouts.status"));
    assert_eq!(city.approve("ben", &plan), Err("rollouts.own_plan"));
    assert_eq!(city.approve("olga", &plan), Err("forbidden"));
    assert_eq!(
        city.approve("carl", &plan),
        Err("forbidden"),
        "the plan is for the whole city"
    );
    let mut other = plan.clone();
    other.error_percent_max = 99;
    assert_eq!(city.approve("anna", &other), Err("rollouts.other_plan"));
    city.approve("anna", &plan).unwrap();
    assert_eq!(city.rollout("x").status, RolloutStatus::Approved);
    city.approve("anna", &plan).unwrap();
    assert_eq!(city.rollout("x").approvals.len(), 1, "renewed");
    city.rollouts("ben", start("x")).unwrap();
    assert_eq!(city.approve("anna", &plan), Err("rollouts.status"));
    assert_eq!(city.rollouts("ben", start("x")), Err("rollouts.status"));
    assert_eq!(
        city.rollouts("ben", start("y")),
        Err("rollouts.unknown_rollout")
    );
}

#[test]
fn rights_cover_every_district_of_the_selection() {
    let mut city = City::with_lamps(2);
    city.lamps(2..3, "south", true);
    city.plan("nora", &plan("a", "r1", list(&["lamp-0", "lamp-1"])))
        .unwrap();
    let both = plan("b", "r1", list(&["lamp-0", "lamp-2"]));
    assert_eq!(city.plan("nora", &both), Err("forbidden"));
    assert_eq!(
        city.plan("nora", &plan("c", "r1", whole_city())),
        Err("forbidden")
    );
    assert_eq!(city.plan("gw-1", &both), Err("forbidden"));
    city.plan("olga", &both).unwrap();
    assert_eq!(city.rollout("b").districts, [scope(NORTH), scope("south")]);
    assert_eq!(city.approve("carl", &both), Err("forbidden"));
    city.approve("anna", &both).unwrap();
    for action in [
        start("b"),
        RolloutsAction::Cancel {
            rollout: id("b"),
            reason: String::new(),
        },
        RolloutsAction::Pause {
            rollout: id("b"),
            reason: String::new(),
        },
        RolloutsAction::Resume { rollout: id("b") },
    ] {
        assert_eq!(city.rollouts("nora", action), Err("forbidden"));
    }
}

#[test]
fn the_release_must_be_released_and_in_time() {
    let mut city = City::with_lamps(1);
    assert_eq!(
        city.plan("olga", &plan("x", "r9", whole_city())),
        Err("firmware.unknown_release")
    );
    let mut short = manifest("r2");
    short.expires_ms = Some(city.time_ms + HOUR_MS);
    city.publish(&short).unwrap();
    assert_eq!(
        city.plan("olga", &plan("x", "r2", whole_city())),
        Err("firmware.not_released")
    );
    (1..=3).for_each(|node| drop(city.hold(node, &short).unwrap()));
    city.approve_release("anna", &short).unwrap();
    city.approve_release("ben", &short).unwrap();
    let x = plan("x", "r2", whole_city());
    city.plan("olga", &x).unwrap();
    city.approve("anna", &x).unwrap();
    city.block(HOUR_MS);
    assert_eq!(city.rollouts("olga", start("x")), Err("firmware.expired"));
    assert_eq!(
        city.plan("olga", &plan("y", "r2", whole_city())),
        Err("firmware.expired")
    );
}

#[test]
fn plans_have_a_shape() {
    let mut city = City::with_lamps(1);
    let mut refused = |change: fn(&mut RolloutPlan), code| {
        let mut plan = plan("x", "r1", list(&["lamp-0"]));
        change(&mut plan);
        assert_eq!(city.plan("olga", &plan), Err(code));
    };
    refused(|p| p.selection = list(&[]), "shape.empty");
    refused(
        |p| p.selection = list(&["lamp-0", "lamp-0"]),
        "shape.repeated",
    );
    refused(
        |p| p.selection = list(&["lamp-0", "lamp-9"]),
        "rollouts.unknown_device",
    );
    refused(|p| p.error_percent_max = 101, "rollouts.percent");
    refused(|p| p.timers.trial_ms = 0, "rollouts.duration");
    refused(|p| p.timers.offer_ms = u64::MAX, "rollouts.duration");
    refused(|p| p.deferral.total_ms_max = u64::MAX, "rollouts.duration");
    let too_many = (0..1001).map(|n| id(&format!("d{n}"))).collect();
    let mut plan = plan("x", "r1", Selection::List { devices: too_many });
    assert_eq!(city.plan("olga", &plan), Err("shape.too_long"));
    plan.selection = Selection::Filter {
        district: scope(""),
        model: Some(String::new()),
        hardware_class: None,
        tag: None,
    };
    assert_eq!(city.plan("olga", &plan), Err("shape.empty"));
}

#[test]
fn a_filter_narrows_by_each_of_its_parts() {
    let mut city = City::with_lamps(4);
    city.lamps(4..6, "north/harbour", true);
    city.lamps(6..8, "northern", true);
    let filter = |district: &str, tag: Option<&str>| Selection::Filter {
        district: scope(district),
        model: Some("glow".to_owned()),
        hardware_class: Some("acme-lamp-v2".to_owned()),
        tag: tag.map(str::to_owned),
    };
    let reached = |city: &City, rollout: &str| {
        let found = rollouts::deployments(&city.overlay, &id(rollout), None, 100).unwrap();
        found
            .into_iter()
            .map(|d| d.device.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    city.started(&plan("odd", "r1", filter(NORTH, Some("ring=1"))));
    assert_eq!(reached(&city, "odd"), "lamp-1 lamp-3 lamp-5");
    city.started(&plan(
        "harbour",
        "r1",
        filter("north/harbour", Some("ring")),
    ));
    assert_eq!(reached(&city, "harbour"), "lamp-4", "the other one is busy");
    assert_eq!(city.rollout("harbour").counts.skipped, 1);
    let mut nothing = filter(NORTH, None);
    if let Selection::Filter { model, .. } = &mut nothing {
        *model = Some("other".to_owned());
    }
    city.started(&plan("none", "r1", nothing));
    assert_eq!(city.rollout("none").status, RolloutStatus::Finished);
}

/// Registers one more device and tells why a rollout of `release` skips it.
fn skipped(change: fn(&mut NewDevice), release: ReleaseManifest) -> Option<SkipReason> {
    let mut city = City::with_lamps(1);
    let mut device = lamp(9, NORTH, true);
    change(&mut device);
    let action = DevicesAction::Register {
        devices: vec![device],
    };
    city.act("olga", Action::Devices(action)).unwrap();
    city.released(&release);
    let plan = plan("x", release.release.as_str(), list(&["lamp-9"]));
    city.plan("olga", &plan).unwrap();
    city.approve("anna", &plan).unwrap();
    city.rollouts("olga", start("x")).unwrap();
    city.run_until_idle()
        .into_iter()
        .find_map(|fact| match fact {
            Fact::DeploymentSkipped { rollout: _, reason } => Some(reason),
            _ => None,
        })
}

#[test]
fn a_device_that_cannot_take_the_release_is_skipped_with_the_reason() {
    let r2 = || manifest("r2");
    assert_eq!(skipped(|_| (), r2()), None);
    let other_class = |d: &mut NewDevice| d.hardware_class = "acme-lamp-v1".to_owned();
    assert_eq!(skipped(other_class, r2()), Some(SkipReason::HardwareClass));
    assert_eq!(
        skipped(|d| d.gateway = None, r2()),
        Some(SkipReason::NoGateway)
    );
    let from = Some(Version {
        major: 1,
        minor: 0,
        patch: 0,
    });
    let needs_version = ReleaseManifest {
        replaces_from: from,
        ..r2()
    };
    assert_eq!(
        skipped(|_| (), needs_version),
        Some(SkipReason::RunningVersion)
    );
    let depends = ReleaseManifest {
        depends_on: vec![id("r1")],
        ..r2()
    };
    assert_eq!(skipped(|_| (), depends), Some(SkipReason::Dependency));
}

#[test]
fn floors_versions_and_dependencies_follow_what_was_confirmed() {
    let mut city = City::with_lamps(2);
    let lamps = || list(&["lamp-0", "lamp-1"]);
    city.started(&plan("one", "r1", list(&["lamp-0"])));
    city.walk("one", "lamp-0", &crate::city::ALL_THE_WAY);
    let state = city.device_state("lamp-0");
    assert_eq!((state.security_counter, state.release), (1, Some(id("r1"))));
    let third = ReleaseManifest {
        depends_on: vec![id("r1")],
        replaces_from: Some(Version {
            major: 1,
            minor: 1,
            patch: 0,
        }),
        ..manifest("r3")
    };
    city.released(&third);
    city.started(&plan("three", "r3", lamps()));
    assert_eq!(city.deployment("three", "lamp-1"), None);
    city.walk("three", "lamp-0", &crate::city::ALL_THE_WAY);
    // A lower security counter is never assigned again, an equal one may be.
    city.started(&plan("back", "r1", lamps()));
    assert_eq!(city.deployment("back", "lamp-0"), None);
    assert_eq!(city.rollout("back").counts.skipped, 1);
    let older = ReleaseManifest {
        security_counter: 3,
        ..manifest("r2")
    };
    city.released(&older);
    city.started(&plan("two", "r2", list(&["lamp-0"])));
    assert_eq!(city.state_of("two", "lamp-0"), DeploymentState::Assigned);
}

#[test]
fn a_device_that_runs_the_image_needs_none() {
    let mut city = City::with_lamps(2);
    city.started(&plan("one", "r1", list(&["lamp-0"])));
    city.walk("one", "lamp-0", &crate::city::ALL_THE_WAY);
    city.started(&plan("again", "r1", list(&["lamp-0", "lamp-1"])));
    assert_eq!(city.state_of("again", "lamp-0"), DeploymentState::NotNeeded);
    // The other one was flashed at the factory and reports it.
    city.step("again", "lamp-1", DeploymentState::NotNeeded)
        .unwrap();
    let rollout = city.rollout("again");
    assert_eq!(
        (rollout.status, rollout.counts.other),
        (RolloutStatus::Finished, 2)
    );
    assert_eq!(city.device_state("lamp-1").release, Some(id("r1")));
}

/// Plans, approves and starts `x-N` in the district.
fn begin(city: &mut City, name: &str, district: &str) -> Result<(), &'static str> {
    let selection = Selection::Filter {
        district: scope(district),
        model: None,
        hardware_class: None,
        tag: None,
    };
    let plan = plan(name, "r1", selection);
    city.plan("olga", &plan)?;
    city.approve("anna", &plan)?;
    city.rollouts("olga", start(name)).map(drop)
}

/// The people of one district, however many rollouts they begin below it, leave the others theirs.
#[test]
fn a_district_has_a_share_of_the_rollouts_at_work() {
    let mut city = City::with_lamps(1);
    let share = slots::ROLLOUTS_PER_DISTRICT_MAX;
    for n in 0..share {
        let district = format!("north/quarter-{n}");
        begin(&mut city, &format!("north-{n}"), &district).unwrap();
    }
    assert_eq!(
        begin(&mut city, "one-more", "north/another"),
        Err("rollouts.too_many_of_district")
    );
    begin(&mut city, "southern", "south").unwrap();
    begin(&mut city, "northern", "northern").unwrap();
    begin(&mut city, "all", "").unwrap();
    // A place is free when a rollout has ended.
    city.rollouts("olga", cancel("north-3")).unwrap();
    city.run_until_idle();
    city.rollouts("olga", start("one-more")).unwrap();
}

#[test]
fn the_city_and_the_districts_leave_rollouts_to_each_other() {
    let mut city = City::with_lamps(1);
    for n in 0..slots::CITY_ROLLOUTS_MAX {
        begin(&mut city, &format!("city-{n}"), "").unwrap();
    }
    assert_eq!(
        begin(&mut city, "more", ""),
        Err("rollouts.too_many_of_city")
    );
    for n in 0..rollouts::ROLLOUTS_AT_WORK_MAX - slots::CITY_ROLLOUTS_MAX {
        let district = format!("d-{}", n / slots::ROLLOUTS_PER_DISTRICT_MAX);
        begin(&mut city, &format!("district-{n}"), &district).unwrap();
    }
    assert_eq!(begin(&mut city, "last", "east"), Err("rollouts.too_many"));
    let mut city = City::with_lamps(1);
    for n in 0..slots::DISTRICT_ROLLOUTS_MAX {
        let district = format!("d-{}", n / slots::ROLLOUTS_PER_DISTRICT_MAX);
        begin(&mut city, &format!("district-{n}"), &district).unwrap();
    }
    assert_eq!(
        begin(&mut city, "more", "east"),
        Err("rollouts.too_many_of_districts")
    );
    begin(&mut city, "all", "").unwrap();
}

fn cancel(rollout: &str) -> RolloutsAction {
    RolloutsAction::Cancel {
        rollout: id(rollout),
        reason: String::new(),
    }
}

/// Plans that nobody starts lapse, and leave the state with the next plan.
#[test]
fn open_plans_are_bounded_and_lapse() {
    let mut city = City::with_lamps(1);
    let day_ms = 24 * HOUR_MS;
    let one = |n: usize| plan(&format!("x{n}"), "r1", list(&["lamp-0"]));
    for n in 0..rollouts::OPEN_PLANS_PER_ORGANIZATION_MAX {
        city.plan("olga", &one(n)).unwrap();
    }
    assert_eq!(city.plan("ben", &one(98)), Err("rollouts.too_many_open"));
    city.rollouts("olga", cancel("x7")).unwrap();
    city.plan("ben", &one(98)).unwrap();
    city.approve("anna", &one(1)).unwrap();
    city.block(30 * day_ms);
    city.released_again("r1");
    assert_eq!(city.approve("anna", &one(2)), Err("rollouts.lapsed"));
    assert_eq!(city.rollouts("olga", start("x1")), Err("rollouts.lapsed"));
    let facts = city.plan("olga", &one(99)).unwrap();
    let lapsed = |fact: &&Fact| matches!(fact, Fact::RolloutLapsed { .. });
    let most = rollouts::OPEN_PLANS_PER_ORGANIZATION_MAX;
    assert_eq!(facts.iter().filter(lapsed).count(), most);
    let record = rollouts::rollout(&city.overlay, &id("x1")).unwrap();
    assert_eq!(record, None);
    city.plan("olga", &one(1)).unwrap();
}
