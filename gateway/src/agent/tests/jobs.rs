use lamplighter_types::{
    ConfigReport, DeploymentReport, DeploymentState, Hash, Id, ReportedConfig,
};

use crate::agent::jobs::{Effect, Jobs};
use crate::lwm2m::{Stage, UpdateResult};
use crate::south::{SouthCommand, WorkNotice};
use crate::spool::Outgoing;
use crate::verify::tests::{NOW_MS, World, id};
use crate::verify::{Assignment, DesiredDocument, Judged, ProvenState, deployment};

use DeploymentState::*;

fn lamp() -> Id {
    id("lamp-1")
}

/// What the ledger says, at a height.
fn assignment(state: DeploymentState, height: u64) -> Assignment {
    let mut world = World::new();
    world.height = height;
    let key = lamplighter_contracts::rollouts::keys::deployment(&id("r1"), &lamp());
    world.change(&key, |deployment| deployment.state = state);
    let item = lamplighter_types::work::WorkItem::Deployment {
        rollout: id("r1"),
        device: lamp(),
    };
    let age_max = std::time::Duration::from_secs(60);
    let message = world.message(vec![item]);
    let proven = ProvenState::prove(&message, &world.genesis, NOW_MS, age_max).unwrap();
    match deployment(&proven, &id("r1"), &lamp(), &id("gw"), NOW_MS).unwrap() {
        Judged::Open(assignment) => *assignment,
        Judged::Ended { .. } => panic!("it has ended"),
    }
}

/// The same of a device that has no key.
fn without_key(state: DeploymentState, height: u64) -> Assignment {
    let mut assignment = assignment(state, height);
    assignment.device.key = None;
    assignment
}

fn stage(stage: Stage, detail: &str) -> WorkNotice {
    WorkNotice::Stage {
        deployment: "r1".to_owned(),
        stage,
        detail: detail.to_owned(),
    }
}

fn report(effects: &[Effect]) -> DeploymentReport {
    match effects {
        [Effect::Report(outgoing)] => match &**outgoing {
            Outgoing::Deployment(report) => report.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn steps(effects: &[Effect]) -> Vec<(DeploymentState, DeploymentState)> {
    let reports = effects.iter().filter_map(|effect| match effect {
        Effect::Report(outgoing) => Some(outgoing),
        _ => None,
    });
    let steps = reports.map(|outgoing| match &**outgoing {
        Outgoing::Deployment(report) => (report.from, report.to),
        other => panic!("{other:?}"),
    });
    steps.collect()
}

/// The report is on the ledger.
fn settle(jobs: &mut Jobs, report: DeploymentReport, height: u64) -> Vec<Effect> {
    jobs.settled(&Outgoing::Deployment(report), false, height, NOW_MS)
}

/// The Thing's own report of a step.
fn of_thing(jobs: &mut Jobs, from: DeploymentState, to: DeploymentState) -> DeploymentReport {
    let report = DeploymentReport {
        rollout: id("r1"),
        device: lamp(),
        from,
        to,
        code: 0,
        digest: None,
        seen_height: 1,
        counter: 50,
        detail: String::new(),
        signature: None,
    };
    jobs.reported(&report);
    report
}

/// Up to the transfer; gives the jobs.
fn transferring(agent: bool) -> Jobs {
    let mut jobs = Jobs::default();
    jobs.registered(&lamp(), agent, NOW_MS);
    let assignment = match agent {
        true => assignment(Assigned, 100),
        false => without_key(Assigned, 100),
    };
    let offered = report(&jobs.assigned(assignment, None, NOW_MS));
    let effects = settle(&mut jobs, offered, 101);
    let [Effect::Prepare { digest, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let downloading = report(&jobs.prepared(&lamp(), &digest, true, NOW_MS));
    assert_eq!((downloading.from, downloading.to), (Offered, Downloading));
    let effects = settle(&mut jobs, downloading, 102);
    let [Effect::Command(SouthCommand::Transfer(_))] = &effects[..] else {
        panic!("{effects:?}")
    };
    jobs
}

#[test]
fn an_update_from_assignment_to_confirmation() {
    let mut jobs = transferring(true);
    assert_eq!(jobs.drive(&lamp(), NOW_MS), [], "each command once");
    let downloaded = of_thing(&mut jobs, Downloading, Downloaded);
    assert_eq!(
        jobs.drive(&lamp(), NOW_MS),
        [],
        "not before the ledger has the report"
    );
    let effects = settle(&mut jobs, downloaded, 103);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Install { .. })]
    ));
    for (from, to) in [
        (Downloaded, Installing),
        (Installing, Staged),
        (Staged, Trial),
    ] {
        let step = of_thing(&mut jobs, from, to);
        assert_eq!(settle(&mut jobs, step, 104), []);
    }
    let confirmed = of_thing(&mut jobs, Trial, Confirmed);
    settle(&mut jobs, confirmed, 110);
    assert!(jobs.is_empty());
    // A node that shows an older state can't begin it again.
    assert_eq!(jobs.assigned(assignment(Assigned, 109), None, NOW_MS), []);
    assert!(jobs.is_empty());
}

#[test]
fn counters_of_own_reports_only_go_up() {
    let mut jobs = Jobs::default();
    let first = report(&jobs.assigned(assignment(Assigned, 100), None, 30));
    assert_eq!(first.counter, 42, "above what the ledger has seen");
    assert_eq!((first.signature, first.seen_height), (None, 100));
    jobs.settled(&Outgoing::Deployment(first), true, 0, 30);
    let second = report(&jobs.tick(1_000_000));
    assert_eq!(second.counter, 1_000_000);
}

#[test]
fn a_refused_offer_is_made_again_later_and_later() {
    let mut jobs = Jobs::default();
    let mut refuse = report(&jobs.assigned(assignment(Assigned, 100), None, NOW_MS));
    let mut now = NOW_MS;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(
            jobs.settled(&Outgoing::Deployment(refuse), true, 0, now),
            []
        );
        let begun = now;
        // The node's reminders do not hurry it.
        assert_eq!(jobs.assigned(assignment(Assigned, 100), None, now), []);
        refuse = loop {
            now += 1_000;
            let effects = jobs.tick(now);
            if !effects.is_empty() {
                break report(&effects);
            }
        };
        pauses.push((now - begun) / 1_000);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
}

#[test]
fn a_restart_goes_on_from_what_the_ledger_says() {
    let mut jobs = Jobs::default();
    let effects = jobs.assigned(assignment(Downloading, 100), None, NOW_MS);
    let [Effect::Prepare { digest, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let effects = jobs.prepared(&lamp(), &digest, true, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Transfer(_))]
    ));
    let mut jobs = Jobs::default();
    let effects = jobs.assigned(assignment(Downloaded, 100), None, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Install { .. })]
    ));
    // The spool has a report that the ledger does not have yet: it decides.
    let mut jobs = Jobs::default();
    assert_eq!(
        jobs.assigned(assignment(Downloaded, 100), Some(Installing), NOW_MS),
        []
    );
    let mut jobs = Jobs::default();
    assert_eq!(jobs.assigned(assignment(Trial, 100), None, NOW_MS), []);
}

#[test]
fn an_artifact_that_can_not_be_had_is_tried_again() {
    let mut jobs = Jobs::default();
    let effects = jobs.assigned(assignment(Offered, 100), None, NOW_MS);
    let [Effect::Prepare { digest, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        jobs.assigned(assignment(Offered, 101), None, NOW_MS),
        [],
        "one at a time"
    );
    assert_eq!(jobs.prepared(&lamp(), &digest, false, NOW_MS), []);
    assert!(matches!(
        jobs.tick(NOW_MS + 5_000)[..],
        [Effect::Prepare { .. }]
    ));
    assert_eq!(
        jobs.prepared(&lamp(), &Hash::of(b"other"), true, NOW_MS),
        []
    );
}

#[test]
fn a_cancelled_or_postponed_update_is_given_up_before_installing_only() {
    let cancel =
        |effects: &[Effect]| matches!(effects, [Effect::Command(SouthCommand::Cancel { .. })]);
    let mut jobs = transferring(true);
    assert!(cancel(&jobs.ended(&id("r1"), &lamp(), 200)));
    assert!(jobs.is_empty());
    let mut jobs = transferring(true);
    assert!(cancel(&jobs.assigned(
        assignment(Postponed, 200),
        None,
        NOW_MS
    )));
    let effects = jobs.assigned(assignment(Downloading, 201), None, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Transfer(_))]
    ));
    let mut jobs = transferring(true);
    let downloaded = of_thing(&mut jobs, Downloading, Downloaded);
    settle(&mut jobs, downloaded, 103);
    let installing = of_thing(&mut jobs, Downloaded, Installing);
    settle(&mut jobs, installing, 104);
    assert_eq!(
        jobs.ended(&id("r1"), &lamp(), 200),
        [],
        "too late to give it up"
    );
}

#[test]
fn a_postponed_package_that_is_held_is_installed_afterwards() {
    let mut jobs = Jobs::default();
    assert_eq!(jobs.assigned(assignment(Postponed, 100), None, NOW_MS), []);
    let effects = jobs.assigned(assignment(Downloaded, 101), None, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Install { .. })]
    ));
}

#[test]
fn the_gateway_vouches_for_a_thing_without_agent() {
    let mut jobs = transferring(false);
    let notice = |stage, detail: &str| WorkNotice::Stage {
        deployment: "r1".to_owned(),
        stage,
        detail: detail.to_owned(),
    };
    let downloaded = report(&jobs.noticed(&lamp(), &notice(Stage::Downloaded, ""), NOW_MS));
    assert!(downloaded.digest.is_some());
    let effects = settle(&mut jobs, downloaded, 103);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Install { .. })]
    ));
    let installing = jobs.noticed(&lamp(), &notice(Stage::Installing, ""), NOW_MS);
    assert_eq!(steps(&installing), [(Downloaded, Installing)]);
    // The trial was not seen.
    let rest = jobs.noticed(&lamp(), &notice(Stage::Confirmed, ""), NOW_MS);
    assert_eq!(steps(&rest), [(Installing, Trial), (Trial, Confirmed)]);
}

#[test]
fn another_version_after_the_boot_is_no_success() {
    let mut jobs = Jobs::default();
    jobs.registered(&lamp(), false, NOW_MS);
    jobs.assigned(without_key(Downloaded, 100), None, NOW_MS);
    let reverted = jobs.noticed(&lamp(), &stage(Stage::Reverted, "it runs 1.0.0"), NOW_MS);
    let wanted = [(Downloaded, Installing), (Installing, Reverted)];
    assert_eq!(steps(&reverted), wanted);
}

#[test]
fn an_installation_goes_on_being_watched_after_a_restart() {
    let watch = |effects: &[Effect]| {
        let [Effect::Command(SouthCommand::Watch { version, .. })] = effects else {
            return false;
        };
        version.to_string() == "2.0.0"
    };
    for state in [Installing, Trial] {
        let mut jobs = Jobs::default();
        assert_eq!(jobs.assigned(without_key(state, 100), None, NOW_MS), []);
        assert!(watch(&jobs.registered(&lamp(), false, NOW_MS)));
        assert_eq!(jobs.drive(&lamp(), NOW_MS), [], "once");
        // In the other order.
        let mut jobs = Jobs::default();
        jobs.registered(&lamp(), false, NOW_MS);
        assert!(watch(&jobs.assigned(without_key(state, 100), None, NOW_MS)));
        // A Thing with the agent reports itself.
        let mut jobs = Jobs::default();
        jobs.registered(&lamp(), true, NOW_MS);
        assert_eq!(jobs.assigned(without_key(state, 100), None, NOW_MS), []);
    }
}

#[test]
fn what_the_south_lost_it_is_told_again() {
    let mut jobs = transferring(true);
    jobs.begun_anew(&lamp());
    let effects = jobs.registered(&lamp(), true, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Transfer(_))]
    ));
    // Too much at once: later, without a word.
    let deployment = "r1".to_owned();
    assert_eq!(
        jobs.noticed(&lamp(), &WorkNotice::Busy { deployment }, NOW_MS),
        []
    );
    assert!(!jobs.tick(NOW_MS + 5_000).is_empty());
}

/// Whoever registered in its name took the order, and what he said of it counts for nothing.
#[test]
fn a_thing_that_comes_back_after_another_in_its_name_gets_its_order_again() {
    for (state, spoofed_agent) in [
        (Downloading, true),
        (Downloading, false),
        (Downloaded, true),
        (Downloaded, false),
    ] {
        let mut jobs = Jobs::default();
        let mut keyed = assignment(state, 100);
        keyed.device.key = Some(lamplighter_types::SecretKey::from_seed([5; 32]).public());
        let effects = jobs.assigned(keyed, None, NOW_MS);
        if let [Effect::Prepare { digest, .. }] = effects[..] {
            jobs.prepared(&lamp(), &digest, true, NOW_MS);
        }
        jobs.registered(&lamp(), spoofed_agent, NOW_MS);
        for said in [Stage::Downloaded, Stage::Installing, Stage::Cancelled] {
            assert_eq!(jobs.noticed(&lamp(), &stage(said, ""), NOW_MS), []);
        }
        let effects = jobs.registered(&lamp(), true, NOW_MS);
        let given = match state {
            Downloading => matches!(&effects[..], [Effect::Command(SouthCommand::Transfer(_))]),
            _ => matches!(
                &effects[..],
                [Effect::Command(SouthCommand::Install { .. })]
            ),
        };
        assert!(given, "{state:?}: {effects:?}");
        assert_eq!(jobs.drive(&lamp(), NOW_MS), [], "once for a registration");
        // While its own report is on its way there is nothing to do.
        of_thing(&mut jobs, state, Installing);
        assert_eq!(jobs.registered(&lamp(), true, NOW_MS), []);
    }
    // A transfer that may be under way is still given up when it is put off.
    let mut jobs = transferring(true);
    let postponed = of_thing(&mut jobs, Downloading, Postponed);
    jobs.registered(&lamp(), true, NOW_MS);
    let effects = settle(&mut jobs, postponed, 103);
    let cancel = |effect: &Effect| matches!(effect, Effect::Command(SouthCommand::Cancel { .. }));
    assert!(effects.iter().all(cancel) && effects.len() == 1);
    assert_eq!(jobs.registered(&lamp(), true, NOW_MS), []);
}

/// Anybody can register in the name of a Thing, with or without our object.
#[test]
fn a_registration_without_the_agent_says_nothing_for_a_thing_with_a_key() {
    for state in [Downloading, Installing, Trial] {
        let mut jobs = Jobs::default();
        jobs.registered(&lamp(), false, NOW_MS);
        let mut keyed = assignment(state, 100);
        keyed.device.key = Some(lamplighter_types::SecretKey::from_seed([5; 32]).public());
        let effects = jobs.assigned(keyed, None, NOW_MS);
        assert!(
            effects.iter().all(|e| matches!(e, Effect::Prepare { .. })),
            "{effects:?}"
        );
        for said in [
            Stage::Downloaded,
            Stage::Installing,
            Stage::Trial,
            Stage::Confirmed,
            Stage::Reverted,
            Stage::Rejected(UpdateResult::IntegrityCheckFailed),
        ] {
            assert_eq!(jobs.noticed(&lamp(), &stage(said, "6.6.6"), NOW_MS), []);
        }
    }
}

#[test]
fn any_words_of_a_thing_fit_into_a_report() {
    let mut jobs = transferring(false);
    let failed = Stage::Failed(UpdateResult::UpdateFailed);
    let words = format!("4.00 {}", "\u{1b}[2J\u{0}é".repeat(300));
    let report = report(&jobs.noticed(&lamp(), &stage(failed, &words), NOW_MS));
    lamplighter_contracts::validate::text("detail", &report.detail, 1_000).unwrap();
    assert!(report.detail.starts_with("4.00 \u{fffd}[2J"));
}

#[test]
fn for_a_thing_with_agent_the_gateway_only_says_that_it_failed() {
    let mut jobs = transferring(true);
    let notice = |stage| WorkNotice::Stage {
        deployment: "r1".to_owned(),
        stage,
        detail: String::new(),
    };
    for stage in [
        Stage::Downloaded,
        Stage::Confirmed,
        Stage::Rejected(UpdateResult::InvalidUri),
    ] {
        assert_eq!(jobs.noticed(&lamp(), &notice(stage), NOW_MS), []);
    }
    let stage = Stage::Failed(UpdateResult::ConnectionLost);
    let failed = report(&jobs.noticed(&lamp(), &notice(stage), NOW_MS));
    assert_eq!(
        (failed.from, failed.to, failed.code),
        (Downloading, Failed, 4)
    );
    let other = WorkNotice::Stage {
        deployment: "r0".to_owned(),
        stage: Stage::Failed(UpdateResult::ConnectionLost),
        detail: String::new(),
    };
    assert_eq!(transferring(true).noticed(&lamp(), &other, NOW_MS), []);
}

fn document() -> DesiredDocument {
    DesiredDocument {
        device: lamp(),
        document: "{}".to_owned(),
        hash: Hash::of(b"{}"),
        reported: None,
        keyed: true,
    }
}

fn given(effects: &[Effect]) -> bool {
    matches!(effects, [Effect::Command(SouthCommand::Configure { .. })])
}

fn applied(signed: bool) -> ConfigReport {
    ConfigReport {
        device: lamp(),
        document: document().hash,
        applied: signed,
        detail: String::new(),
        counter: 50,
        signature: signed.then_some(lamplighter_types::Signature([1; 64])),
    }
}

#[test]
fn a_document_is_given_once_for_each_registration() {
    let mut jobs = Jobs::default();
    assert_eq!(jobs.desired(document()), [], "nobody is there");
    assert!(given(&jobs.registered(&lamp(), true, NOW_MS)));
    assert_eq!(jobs.desired(document()), []);
    assert!(given(&jobs.registered(&lamp(), true, NOW_MS)));
    let refused = WorkNotice::Configured {
        accepted: false,
        detail: "no place".to_owned(),
    };
    let noticed = jobs.noticed(&lamp(), &refused, NOW_MS);
    assert_eq!(noticed, [], "its agent reports itself");
    // The south had no room for it.
    let refused = WorkNotice::Refused {
        deployment: String::new(),
        reason: "16 commands wait".to_owned(),
    };
    assert_eq!(jobs.noticed(&lamp(), &refused, NOW_MS), []);
    assert!(given(&jobs.desired(document())));
    jobs.settled(&Outgoing::Config(applied(true)), false, 5, NOW_MS);
    assert_eq!(jobs.registered(&lamp(), true, NOW_MS), []);
}

#[test]
fn a_thing_without_the_agent_gets_no_document_and_nothing_is_said_of_it() {
    let mut jobs = Jobs::default();
    assert_eq!(jobs.registered(&lamp(), false, NOW_MS), []);
    assert_eq!(jobs.desired(document()), []);
    let refused = WorkNotice::Configured {
        accepted: false,
        detail: "4.04".to_owned(),
    };
    assert_eq!(jobs.noticed(&lamp(), &refused, NOW_MS), []);
}

#[test]
fn only_a_signature_says_that_a_thing_with_a_key_was_told_its_document() {
    let mut jobs = Jobs::default();
    jobs.registered(&lamp(), true, NOW_MS);
    jobs.desired(document());
    jobs.settled(&Outgoing::Config(applied(false)), false, 5, NOW_MS);
    assert!(given(&jobs.registered(&lamp(), true, NOW_MS)));
    // As a ledger may have it from before.
    let reported = |attested| ReportedConfig {
        device: lamp(),
        document: document().hash,
        applied: false,
        detail: String::new(),
        attested,
        height: 4,
    };
    for (keyed, attested, told) in [
        (true, false, false),
        (true, true, true),
        (false, false, true),
    ] {
        let mut jobs = Jobs::default();
        jobs.registered(&lamp(), true, NOW_MS);
        let reported = Some(reported(attested));
        let effects = jobs.desired(DesiredDocument {
            reported,
            keyed,
            ..document()
        });
        assert_eq!(given(&effects), !told);
    }
}

#[test]
fn a_device_that_goes_elsewhere_is_sent_there() {
    let mut jobs = transferring(true);
    assert!(matches!(
        &jobs.removed(&lamp())[..],
        [Effect::Command(SouthCommand::Release { .. })]
    ));
    assert!(jobs.is_empty());
}
