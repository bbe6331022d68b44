//! Windows, consent, and postponements that Things ask for.

use lamplighter_contracts::{execute::check, rollouts};
use lamplighter_types::*;

use crate::city::*;

use DeploymentState::*;

fn rules(consent: &[ConsentFrom]) -> InstallRules {
    InstallRules {
        windows: vec![MaintenanceWindow {
            schedule: "0 2 * * *".to_owned(),
            minutes: 120,
            zone: "Europe/Berlin".to_owned(),
        }],
        consent: consent.to_vec(),
        wait_ms_max: 24 * HOUR_MS,
    }
}

fn guarded(consent: &[ConsentFrom]) -> GuardedPlan {
    let mut plan = grouped("x", vec![group(GroupMembers::Rest, gate(0, 0, 0))]);
    plan.base.selection = list(&["lamp-0"]);
    GuardedPlan {
        plan,
        rules: rules(consent),
    }
}

fn plan_guarded(city: &mut City, who: &str, plan: &GuardedPlan) -> ActResult {
    let plan = Box::new(plan.clone());
    city.rollouts(who, RolloutsAction::PlanGuarded { plan })
}

fn approve_guarded(city: &mut City, who: &str, plan: &GuardedPlan) -> ActResult {
    let rollout = plan.plan.base.rollout.clone();
    let plan = codec::digest(plan);
    city.rollouts(who, RolloutsAction::Approve { rollout, plan })
}

fn started(consent: &[ConsentFrom]) -> City {
    let mut city = City::with_lamps(1);
    start(&mut city, &guarded(consent));
    city
}

fn start(city: &mut City, plan: &GuardedPlan) {
    plan_guarded(city, "olga", plan).unwrap();
    approve_guarded(city, "anna", plan).unwrap();
    let rollout = id("x");
    city.rollouts("olga", RolloutsAction::Start { rollout })
        .unwrap();
    city.run_until_idle();
}

fn decide(city: &mut City, who: &str, decision: ConsentChoice) -> ActResult {
    let decision = ConsentDecision {
        rollout: id("x"),
        device: id("lamp-0"),
        decision,
        reason: "asked by telephone".to_owned(),
    };
    city.rollouts(who, RolloutsAction::Consent(decision))
}

fn consent(city: &City, hours: u64) -> ConsentChoice {
    ConsentChoice::Granted {
        until_ms: city.time_ms + hours * HOUR_MS,
    }
}

fn record(city: &City) -> InstallRecord {
    let found = rollouts::install_record(&city.overlay, &id("x"), &id("lamp-0"));
    found.unwrap().unwrap()
}

/// A report of the Thing, which names `from` and signs it.
fn thing(city: &mut City, from: DeploymentState, to: DeploymentState, code: u32) -> ActResult {
    let mut report = city.next_report("x", "lamp-0", to);
    (report.from, report.code) = (from, code);
    report.sign(&city.chain_id, &secret("lamp-0"));
    city.send("gw-1", vec![report])
}

/// A report of the gateway alone.
fn gateway(city: &mut City, from: DeploymentState, to: DeploymentState, code: u32) -> ActResult {
    let mut report = city.next_report("x", "lamp-0", to);
    (report.from, report.code, report.signature) = (from, code, None);
    city.send("gw-1", vec![report])
}

fn last_step(city: &City) -> DeploymentStep {
    city.deployment("x", "lamp-0").unwrap().steps.pop().unwrap()
}

#[test]
fn a_device_waits_for_consent_with_the_image_at_hand() {
    let mut city = started(&[ConsentFrom::Operator]);
    city.walk("x", "lamp-0", &[Offered, Downloading]);
    let facts = city.step("x", "lamp-0", Downloaded).unwrap();
    let moved = [
        (Some(Downloading), Downloaded),
        (Some(Downloaded), WaitingConsent),
    ];
    assert_eq!(moves(&facts), moved);
    assert_eq!(
        record(&city).wait_until_ms,
        Some(city.time_ms + 24 * HOUR_MS)
    );
    let choice = consent(&city, 5);
    assert_eq!(decide(&mut city, "anna", choice), Err("rollouts.not_asked"));
    let facts = decide(&mut city, "nora", choice).unwrap();
    assert_eq!(moves(&facts), [(Some(WaitingConsent), Downloaded)]);
    let found = record(&city).consent.unwrap();
    assert_eq!((found.by, found.by_thing), (id("nora"), false));
    let step = last_step(&city);
    assert_eq!(step.by, Some(id("nora")));
    assert_eq!(step.detail, "asked by telephone");
    city.walk("x", "lamp-0", &[Installing, Trial, Confirmed]);
    assert_eq!(city.rollout("x").status, RolloutStatus::Finished);
}

#[test]
fn consent_counts_until_its_time_and_until_it_is_withdrawn() {
    let mut city = started(&[ConsentFrom::Operator]);
    city.walk("x", "lamp-0", &[Offered]);
    let choice = consent(&city, 3);
    decide(&mut city, "olga", choice).unwrap();
    assert_eq!(city.state_of("x", "lamp-0"), Offered, "it was given before");
    city.walk("x", "lamp-0", &[Downloading, Downloaded]);
    city.block(3 * HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), WaitingConsent);
    assert_eq!(last_step(&city).detail, "the consent is over");
    let choice = consent(&city, 3);
    decide(&mut city, "olga", choice).unwrap();
    decide(&mut city, "nora", ConsentChoice::Withdrawn).unwrap();
    assert_eq!(city.state_of("x", "lamp-0"), WaitingConsent);
    let again = decide(&mut city, "nora", ConsentChoice::Withdrawn);
    assert_eq!(again, Err("rollouts.no_consent"));
    let counted = record(&city);
    assert_eq!(
        (counted.granted, counted.withdrawn, counted.consent),
        (2, 1, None)
    );
    for until_ms in [0, city.time_ms, city.time_ms + 367 * 24 * HOUR_MS] {
        let choice = ConsentChoice::Granted { until_ms };
        assert_eq!(
            decide(&mut city, "olga", choice),
            Err("rollouts.consent_time")
        );
    }
}

#[test]
fn a_refusal_cancels_and_is_no_failure_of_the_release() {
    let mut city = started(&[ConsentFrom::Owner]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    let choice = ConsentChoice::Refused;
    decide(&mut city, "anna", choice).unwrap();
    assert_eq!(
        city.state_of("x", "lamp-0"),
        Cancelled,
        "anna is of the owner"
    );
    assert_eq!(record(&city).refused, 1);
    let counts = city.rollout("x").counts;
    assert_eq!((counts.failed, counts.other), (0, 1));
    assert_eq!(decide(&mut city, "anna", choice), Err("rollouts.too_late"));
}

#[test]
fn without_any_consent_the_deployment_ends_and_has_not_failed() {
    let mut city = started(&[ConsentFrom::Operator]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    let pause = RolloutsAction::Pause {
        rollout: id("x"),
        reason: String::new(),
    };
    city.rollouts("olga", pause).unwrap();
    city.block(24 * HOUR_MS);
    assert_eq!(
        city.state_of("x", "lamp-0"),
        WaitingConsent,
        "a pause is no wait"
    );
    city.rollouts("olga", RolloutsAction::Resume { rollout: id("x") })
        .unwrap();
    city.block(24 * HOUR_MS - 1);
    assert_eq!(city.state_of("x", "lamp-0"), WaitingConsent);
    city.block(1);
    assert_eq!(city.state_of("x", "lamp-0"), Cancelled);
    assert_eq!(city.rollout("x").counts.failed, 0);
    assert_eq!(
        rollouts::due_ms(&city.overlay).unwrap(),
        None,
        "no timer is left"
    );
}

#[test]
fn a_thing_consents_or_refuses_by_its_signature_alone() {
    let mut city = started(&[ConsentFrom::Thing]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    let choice = consent(&city, 1);
    assert_eq!(decide(&mut city, "olga", choice), Err("rollouts.not_asked"));
    assert_eq!(
        gateway(&mut city, WaitingConsent, Downloaded, 60),
        Err("rollouts.unsigned")
    );
    thing(&mut city, WaitingConsent, Downloaded, 3600).unwrap();
    let found = record(&city).consent.unwrap();
    assert_eq!((found.by_thing, found.by), (true, id("gw-1")));
    assert_eq!(found.until_ms, city.time_ms + HOUR_MS);
    city.block(HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), WaitingConsent);
    thing(&mut city, Downloaded, Cancelled, 0).unwrap();
    assert_eq!(city.state_of("x", "lamp-0"), Cancelled);
    let mut city = started(&[ConsentFrom::Operator]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    let refused = thing(&mut city, WaitingConsent, Downloaded, 3600);
    assert_eq!(
        refused,
        Err("rollouts.not_asked"),
        "the plan does not ask it"
    );
}

#[test]
fn an_owner_consents_by_its_people_alone() {
    let mut city = started(&[ConsentFrom::Owner]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    let harbour = UsersAction::RegisterOrganization {
        organization: id("harbour"),
        name: "Harbour".to_owned(),
    };
    let hank = UsersAction::RegisterUser {
        account: id("hank"),
        organization: id("harbour"),
        name: "Hank".to_owned(),
        key: secret("hank").public(),
        proof: secret("hank").prove(KeyPurpose::Account, &city.chain_id, &id("hank")),
    };
    for action in [harbour, hank] {
        city.act("admin", Action::Users(action)).unwrap();
    }
    let choice = consent(&city, 1);
    for who in ["hank", "gw-1"] {
        let refused = decide(&mut city, who, choice);
        assert_eq!(refused, Err("rollouts.not_asked"), "{who}");
    }
    decide(&mut city, "anna", choice).unwrap();
    assert_eq!(record(&city).consent.unwrap().by, id("anna"));
}

/// Its gateway could otherwise consent to everything.
#[test]
fn no_gateway_consents_for_a_thing_without_a_key() {
    let mut city = City::new();
    city.lamps(0..1, NORTH, false);
    city.released(&manifest("r1"));
    start(&mut city, &guarded(&[ConsentFrom::Thing]));
    for to in [Offered, Downloaded] {
        let from = city.state_of("x", "lamp-0");
        gateway(&mut city, from, to, 0).unwrap();
    }
    for to in [Downloaded, Cancelled] {
        let refused = gateway(&mut city, WaitingConsent, to, 60);
        assert_eq!(refused, Err("rollouts.not_asked"), "{to:?}");
    }
    assert_eq!(city.state_of("x", "lamp-0"), WaitingConsent);
}

#[test]
fn a_busy_thing_is_postponed_within_the_caps_of_people() {
    let mut city = started(&[]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    gateway(&mut city, Downloaded, Postponed, 3600).unwrap();
    assert_eq!(city.state_of("x", "lamp-0"), Postponed);
    assert!(!last_step(&city).attested);
    city.block(HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), Downloaded);
    // The caps of the plan are two postponements, 10 hours in all.
    thing(&mut city, Downloaded, Postponed, 1_000_000).unwrap();
    let deployment = city.deployment("x", "lamp-0").unwrap();
    let latest_ms = deployment.first_offered_ms.unwrap() + 10 * HOUR_MS;
    assert_eq!(deployment.postponed_until_ms, Some(latest_ms));
    assert_eq!(record(&city).postponed_by_thing, 2);
    city.block(10 * HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), Downloaded);
    assert_eq!(
        thing(&mut city, Downloaded, Postponed, 60),
        Err("rollouts.postponed_too_often")
    );
    city.walk("x", "lamp-0", &[Installing]);
}

#[test]
fn no_thing_postpones_a_critical_release_or_one_of_a_plan_without_guards() {
    let mut city = City::with_lamps(1);
    city.released(&ReleaseManifest {
        critical: true,
        ..manifest("r2")
    });
    let mut plan = guarded(&[]);
    plan.plan.base.release = id("r2");
    start(&mut city, &plan);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    assert_eq!(
        gateway(&mut city, Downloaded, Postponed, 60),
        Err("rollouts.critical")
    );
    let mut city = City::with_lamps(1);
    city.started(&crate::city::plan("x", "r1", list(&["lamp-0"])));
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    for to in [Postponed, WaitingWindow] {
        let refused = gateway(&mut city, Downloaded, to, 60);
        assert_eq!(refused, Err("rollouts.transition"), "{to:?}");
    }
    let choice = consent(&city, 1);
    let refused = decide(&mut city, "olga", choice);
    assert_eq!(refused, Err("rollouts.no_consent_asked"));
}

#[test]
fn a_gateway_that_finds_no_window_is_silent_for_too_long() {
    let mut city = started(&[]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    gateway(&mut city, Downloaded, WaitingWindow, 7200).unwrap();
    let wait_until_ms = record(&city).wait_until_ms.unwrap();
    let deployment = city.deployment("x", "lamp-0").unwrap();
    assert_eq!(
        deployment.deadline_ms,
        Some(wait_until_ms),
        "the report moves nothing"
    );
    city.block(3 * HOUR_MS);
    thing(&mut city, Downloaded, Installing, 0).unwrap();
    let deployment = city.deployment("x", "lamp-0").unwrap();
    let install_until_ms = city.time_ms + HOUR_MS;
    assert_eq!(
        deployment.deadline_ms,
        Some(install_until_ms),
        "the wait is over"
    );
    let mut city = started(&[]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    gateway(&mut city, Downloaded, WaitingWindow, 7200).unwrap();
    city.block(24 * HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), TimedOut);
}

#[test]
fn a_thing_that_installs_nevertheless_is_believed() {
    let mut city = started(&[ConsentFrom::Operator]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    thing(&mut city, Downloaded, Installing, 0).unwrap();
    assert_eq!(last_step(&city).detail, "without consent: ");
    let mut city = started(&[]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    thing(&mut city, Downloaded, Postponed, 3600).unwrap();
    thing(&mut city, Downloaded, Installing, 0).unwrap();
    let deployment = city.deployment("x", "lamp-0").unwrap();
    assert_eq!(deployment.state, Installing);
    assert_eq!(
        (deployment.postponed_from, deployment.postponed_until_ms),
        (None, None)
    );
    let mut city = started(&[]);
    city.walk("x", "lamp-0", &[Offered]);
    thing(&mut city, Offered, Postponed, 3600).unwrap();
    let refused = thing(&mut city, Downloaded, Installing, 0);
    assert_eq!(refused, Err("rollouts.stale"), "it never had the image");
}

#[test]
fn a_postponement_leads_back_to_the_wait_for_consent() {
    let mut city = started(&[ConsentFrom::Operator]);
    city.walk("x", "lamp-0", &[Offered, Downloaded]);
    thing(&mut city, Downloaded, Postponed, 3600).unwrap();
    city.block(HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), WaitingConsent);
    thing(&mut city, Downloaded, Postponed, 3600).unwrap();
    let choice = consent(&city, 5);
    decide(&mut city, "olga", choice).unwrap();
    assert_eq!(city.state_of("x", "lamp-0"), Postponed);
    city.block(HOUR_MS);
    assert_eq!(city.state_of("x", "lamp-0"), Downloaded);
}

#[test]
fn guards_are_part_of_what_is_approved() {
    let mut city = City::with_lamps(1);
    let plan = guarded(&[ConsentFrom::Operator]);
    plan_guarded(&mut city, "olga", &plan).unwrap();
    approve_guarded(&mut city, "anna", &plan).unwrap();
    assert_eq!(city.rollout("x").status, RolloutStatus::Approved);
    let amend = |plan: &GuardedPlan| RolloutsAction::AmendGuarded {
        plan: Box::new(plan.clone()),
    };
    let changes: [fn(&mut InstallRules); 5] = [
        |rules| rules.windows[0].schedule = "0 3 * * *".to_owned(),
        |rules| rules.windows[0].minutes = 121,
        |rules| rules.windows[0].zone = "UTC".to_owned(),
        |rules| rules.consent.clear(),
        |rules| rules.wait_ms_max += 1,
    ];
    let mut changed = plan.clone();
    for change in changes {
        let before = changed.clone();
        change(&mut changed.rules);
        city.rollouts("olga", amend(&changed)).unwrap();
        assert_eq!(city.rollout("x").status, RolloutStatus::PendingApproval);
        let former = approve_guarded(&mut city, "anna", &before);
        assert_eq!(former, Err("rollouts.other_plan"));
        approve_guarded(&mut city, "anna", &changed).unwrap();
    }
    let rules = || rollouts::install_rules(&city.overlay, &id("x")).unwrap();
    assert_eq!(rules(), Some(changed.rules.clone()));
    let plan = changed.plan.clone();
    city.rollouts("olga", RolloutsAction::Amend { plan })
        .unwrap();
    let rules = rollouts::install_rules(&city.overlay, &id("x")).unwrap();
    assert_eq!(rules, None, "a plan without guards took its place");
    city.approve_groups("anna", &changed.plan).unwrap();
}

#[test]
fn guards_that_mean_nothing_are_refused() {
    let window = |schedule: &str, minutes, zone: &str| MaintenanceWindow {
        schedule: schedule.to_owned(),
        minutes,
        zone: zone.to_owned(),
    };
    let code = |change: &dyn Fn(&mut InstallRules)| {
        let mut plan = guarded(&[]);
        change(&mut plan.rules);
        let plan = Box::new(plan);
        let action = Action::Rollouts(RolloutsAction::PlanGuarded { plan });
        check(&action).map_err(|refusal| refusal.code)
    };
    assert_eq!(code(&|_| {}), Ok(()));
    let bad = [
        window("0 0 30 2 *", 60, "UTC"),
        window("0 0 31 4,6 *", 60, "UTC"),
        window("every night", 60, "UTC"),
        window("0 2 * * *", 0, "UTC"),
        window("0 2 * * *", 7 * 24 * 60 + 1, "UTC"),
        window("0 2 * * *", 60, ""),
        window("0 2 * * *", 60, "../localtime"),
    ];
    for window in bad {
        let refused = code(&|rules| rules.windows = vec![window.clone()]);
        assert_eq!(refused, Err("rollouts.window"), "{window:?}");
    }
    let many = window("0 2 * * *", 60, "UTC");
    let refused = code(&|rules| rules.windows = vec![many.clone(); 9]);
    assert_eq!(refused, Err("rollouts.too_many_windows"));
    let twice = [ConsentFrom::Thing, ConsentFrom::Owner, ConsentFrom::Thing];
    let refused = code(&|rules| rules.consent = twice.to_vec());
    assert_eq!(refused, Err("rollouts.consent_twice"));
    for wait_ms in [0, u64::MAX] {
        let refused = code(&|rules| rules.wait_ms_max = wait_ms);
        assert_eq!(refused, Err("rollouts.duration"));
    }
}
