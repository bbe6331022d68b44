mod configuration;
mod floors;
mod guards;
mod proofs;

use lamplighter_client::TrustAnchor;
use lamplighter_types::{
    ConfigReport, DeploymentReport, DeploymentState, Hash, Id, ReportedConfig, codec,
};

use super::{DeploymentPlanner, Effect};
use crate::lwm2m::order::OrderAction;
use crate::lwm2m::{Stage, UpdateResult};
use crate::south::{SouthCommand, WorkNotice};
use crate::spool::OutgoingReport;
use crate::verify::tests::{NOW_MS, World, id};
use crate::verify::{
    Assignment, DesiredDocument, OrderProof, ProvenState, VerifiedDeployment, deployment,
};

use DeploymentState::*;

fn lamp() -> Id {
    id("lamp-1")
}

/// A proven assignment, of a ledger at this height.
fn assignment(state: DeploymentState, height: u64) -> Assignment {
    let mut world = World::new();
    world.height = height;
    let key = lamplighter_contracts::rollouts::keys::deployment(&id("r1"), &lamp());
    world.change(&key, |deployment| deployment.state = state);
    let item = lamplighter_types::wire::work::WorkItem::Deployment {
        rollout: id("r1"),
        device: lamp(),
    };
    let age_max = std::time::Duration::from_secs(60);
    let message = world.message(vec![item]);
    let anchor = TrustAnchor::in_memory((&world.genesis).into());
    let proven = ProvenState::prove(&message, &anchor, NOW_MS, age_max).unwrap();
    match deployment(&proven, &id("r1"), &lamp(), &id("gw"), NOW_MS).unwrap() {
        VerifiedDeployment::Open(assignment) => *assignment,
        VerifiedDeployment::Ended { .. } => panic!("it has ended"),
    }
}

/// The assignment of a device that has no key.
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
            OutgoingReport::Deployment(report) => report.clone(),
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
        OutgoingReport::Deployment(report) => (report.from, report.to),
        other => panic!("{other:?}"),
    });
    steps.collect()
}

/// The ledger accepts the report.
fn accept(planner: &mut DeploymentPlanner, report: DeploymentReport, height: u64) -> Vec<Effect> {
    planner.report_resolved(&OutgoingReport::Deployment(report), false, height, NOW_MS)
}

/// Stores a report that the Thing itself makes.
fn report_of_thing(
    planner: &mut DeploymentPlanner,
    from: DeploymentState,
    to: DeploymentState,
) -> DeploymentReport {
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
    planner.report_stored(&report);
    report
}

/// A planner whose device is at the transfer.
fn transferring(agent: bool) -> DeploymentPlanner {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), agent, NOW_MS);
    let assignment = match agent {
        true => assignment(Assigned, 100),
        false => without_key(Assigned, 100),
    };
    let offered = report(&planner.assigned(assignment, None, NOW_MS));
    let effects = accept(&mut planner, offered, 101);
    let [Effect::FetchArtifact { digest, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let downloading = report(&planner.artifact_fetched(&lamp(), &digest, true, NOW_MS));
    assert_eq!((downloading.from, downloading.to), (Offered, Downloading));
    let effects = accept(&mut planner, downloading, 102);
    let [Effect::Command(SouthCommand::Transfer(_))] = &effects[..] else {
        panic!("{effects:?}")
    };
    planner
}

#[test]
fn an_update_from_assignment_to_confirmation() {
    let mut planner = transferring(true);
    assert_eq!(planner.next_step(&lamp(), NOW_MS), [], "each command once");
    let downloaded = report_of_thing(&mut planner, Downloading, Downloaded);
    assert_eq!(
        planner.next_step(&lamp(), NOW_MS),
        [],
        "not before the ledger has the report"
    );
    let effects = accept(&mut planner, downloaded, 103);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Install { .. })]
    ));
    for (from, to) in [
        (Downloaded, Installing),
        (Installing, Staged),
        (Staged, Trial),
    ] {
        let step = report_of_thing(&mut planner, from, to);
        assert_eq!(accept(&mut planner, step, 104), []);
    }
    let confirmed = report_of_thing(&mut planner, Trial, Confirmed);
    accept(&mut planner, confirmed, 110);
    assert!(planner.is_empty());
    // A node that shows an older state can't begin it again.
    assert_eq!(
        planner.assigned(assignment(Assigned, 109), None, NOW_MS),
        []
    );
    assert!(planner.is_empty());
}

#[test]
fn counters_of_gateway_reports_only_increase() {
    let mut planner = DeploymentPlanner::default();
    let first = report(&planner.assigned(assignment(Assigned, 100), None, 30));
    assert_eq!(first.counter, 42, "above what the ledger has seen");
    assert_eq!((first.signature, first.seen_height), (None, 100));
    planner.report_resolved(&OutgoingReport::Deployment(first), true, 0, 30);
    let second = report(&planner.tick(1_000_000));
    assert_eq!(second.counter, 1_000_000);
}

#[test]
fn after_a_reset_on_the_ledger_the_counters_begin_below_again() {
    let mut planner = DeploymentPlanner::default();
    let mut used_up = without_key(Assigned, 100);
    used_up.report_counter = 1 << 52;
    let above = report(&planner.assigned(used_up, None, 1_000_000));
    assert_eq!(above.counter, (1 << 52) + 1);
    // The deployment is assigned again, after the reset.
    let mut reset = without_key(Assigned, 101);
    reset.deployment.rollout = id("r2");
    reset.report_counter = 7;
    let below = report(&planner.assigned(reset, None, 1_000_000));
    assert_eq!(below.counter, 1_000_000);
}

#[test]
fn a_rejected_offer_is_repeated_with_growing_pauses() {
    let mut planner = DeploymentPlanner::default();
    let mut offer = report(&planner.assigned(assignment(Assigned, 100), None, NOW_MS));
    let mut now = NOW_MS;
    for longest_s in [5, 10, 20, 40, 80, 160, 320, 600, 600, 600] {
        let rejected = planner.report_resolved(&OutgoingReport::Deployment(offer), true, 0, now);
        assert_eq!(rejected, []);
        let start = now;
        // The node's reminders do not shorten the pause.
        assert_eq!(planner.assigned(assignment(Assigned, 100), None, now), []);
        offer = loop {
            now += 100;
            let effects = planner.tick(now);
            if !effects.is_empty() {
                break report(&effects);
            }
        };
        let pause_ms = now - start;
        let expected_ms = longest_s * 500..=longest_s * 1_000 + 100;
        assert!(
            expected_ms.contains(&pause_ms),
            "{pause_ms} of {longest_s} s"
        );
    }
}

#[test]
fn after_a_restart_the_state_of_the_ledger_decides() {
    let mut planner = DeploymentPlanner::default();
    let effects = planner.assigned(assignment(Downloading, 100), None, NOW_MS);
    let [Effect::FetchArtifact { digest, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    let effects = planner.artifact_fetched(&lamp(), &digest, true, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Transfer(_))]
    ));
    let mut planner = DeploymentPlanner::default();
    let effects = planner.assigned(assignment(Downloaded, 100), None, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Install { .. })]
    ));
    // The spool has a report that the ledger does not have yet, which decides.
    let mut planner = DeploymentPlanner::default();
    assert_eq!(
        planner.assigned(assignment(Downloaded, 100), Some(Installing), NOW_MS),
        []
    );
    let mut planner = DeploymentPlanner::default();
    assert_eq!(planner.assigned(assignment(Trial, 100), None, NOW_MS), []);
}

#[test]
fn an_unavailable_artifact_is_fetched_again() {
    let mut planner = DeploymentPlanner::default();
    let effects = planner.assigned(assignment(Offered, 100), None, NOW_MS);
    let [Effect::FetchArtifact { digest, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        planner.assigned(assignment(Offered, 101), None, NOW_MS),
        [],
        "one at a time"
    );
    assert_eq!(
        planner.artifact_fetched(&lamp(), &digest, false, NOW_MS),
        []
    );
    assert!(matches!(
        planner.tick(NOW_MS + 5_000)[..],
        [Effect::FetchArtifact { .. }]
    ));
    assert_eq!(
        planner.artifact_fetched(&lamp(), &Hash::of(b"other"), true, NOW_MS),
        []
    );
}

#[test]
fn a_cancelled_or_postponed_update_ends_only_before_the_installation() {
    let cancel =
        |effects: &[Effect]| matches!(effects, [Effect::Command(SouthCommand::Cancel { .. })]);
    let mut planner = transferring(true);
    assert!(cancel(&planner.ended(&id("r1"), &lamp(), 200)));
    assert!(planner.is_empty());
    let mut planner = transferring(true);
    assert!(cancel(&planner.assigned(
        assignment(Postponed, 200),
        None,
        NOW_MS
    )));
    let effects = planner.assigned(assignment(Downloading, 201), None, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Transfer(_))]
    ));
    let mut planner = transferring(true);
    let downloaded = report_of_thing(&mut planner, Downloading, Downloaded);
    accept(&mut planner, downloaded, 103);
    let installing = report_of_thing(&mut planner, Downloaded, Installing);
    accept(&mut planner, installing, 104);
    assert_eq!(
        planner.ended(&id("r1"), &lamp(), 200),
        [],
        "too late to give it up"
    );
}

#[test]
fn a_complete_package_is_installed_after_a_postponement() {
    let mut planner = DeploymentPlanner::default();
    assert_eq!(
        planner.assigned(assignment(Postponed, 100), None, NOW_MS),
        []
    );
    let effects = planner.assigned(assignment(Downloaded, 101), None, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Install { .. })]
    ));
}

#[test]
fn the_gateway_vouches_for_a_thing_without_agent() {
    let mut planner = transferring(false);
    let notice = |stage, detail: &str| WorkNotice::Stage {
        deployment: "r1".to_owned(),
        stage,
        detail: detail.to_owned(),
    };
    let downloaded = report(&planner.on_notice(&lamp(), &notice(Stage::Downloaded, ""), NOW_MS));
    assert!(downloaded.digest.is_some());
    let effects = accept(&mut planner, downloaded, 103);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Install { .. })]
    ));
    let installing = planner.on_notice(&lamp(), &notice(Stage::Installing, ""), NOW_MS);
    assert_eq!(steps(&installing), [(Downloaded, Installing)]);
    // The trial was not seen.
    let rest = planner.on_notice(&lamp(), &notice(Stage::Confirmed, ""), NOW_MS);
    assert_eq!(steps(&rest), [(Installing, Trial), (Trial, Confirmed)]);
}

#[test]
fn another_version_after_the_boot_is_no_success() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), false, NOW_MS);
    planner.assigned(without_key(Downloaded, 100), None, NOW_MS);
    let reverted = planner.on_notice(&lamp(), &stage(Stage::Reverted, "it runs 1.0.0"), NOW_MS);
    let wanted = [(Downloaded, Installing), (Installing, Reverted)];
    assert_eq!(steps(&reverted), wanted);
}

#[test]
fn an_installation_is_watched_after_a_restart() {
    let watch = |effects: &[Effect]| {
        let [Effect::Command(SouthCommand::Watch { version, .. })] = effects else {
            return false;
        };
        version.to_string() == "2.0.0"
    };
    for state in [Installing, Trial] {
        let mut planner = DeploymentPlanner::default();
        assert_eq!(planner.assigned(without_key(state, 100), None, NOW_MS), []);
        assert!(watch(&planner.thing_registered(&lamp(), false, NOW_MS)));
        assert_eq!(planner.next_step(&lamp(), NOW_MS), [], "once");
        // In the other order.
        let mut planner = DeploymentPlanner::default();
        planner.thing_registered(&lamp(), false, NOW_MS);
        assert!(watch(&planner.assigned(
            without_key(state, 100),
            None,
            NOW_MS
        )));
        // A Thing with the agent reports itself.
        let mut planner = DeploymentPlanner::default();
        planner.thing_registered(&lamp(), true, NOW_MS);
        assert_eq!(planner.assigned(without_key(state, 100), None, NOW_MS), []);
    }
}

#[test]
fn commands_that_the_south_lost_are_repeated() {
    let mut planner = transferring(true);
    planner.commands_lost(&lamp());
    let effects = planner.thing_registered(&lamp(), true, NOW_MS);
    assert!(matches!(
        &effects[..],
        [Effect::Command(SouthCommand::Transfer(_))]
    ));
    // The south has too much to do.
    let deployment = "r1".to_owned();
    assert_eq!(
        planner.on_notice(&lamp(), &WorkNotice::Busy { deployment }, NOW_MS),
        []
    );
    assert!(!planner.tick(NOW_MS + 5_000).is_empty());
}

/// Another one registered in its name and took the command; its states prove nothing.
#[test]
fn a_thing_gets_its_command_after_another_one_in_its_name() {
    for (state, spoofed_agent) in [
        (Downloading, true),
        (Downloading, false),
        (Downloaded, true),
        (Downloaded, false),
    ] {
        let mut planner = DeploymentPlanner::default();
        let mut keyed = assignment(state, 100);
        keyed.device.key = Some(lamplighter_types::SecretKey::from_seed([5; 32]).public());
        let effects = planner.assigned(keyed, None, NOW_MS);
        if let [Effect::FetchArtifact { digest, .. }] = effects[..] {
            planner.artifact_fetched(&lamp(), &digest, true, NOW_MS);
        }
        planner.thing_registered(&lamp(), spoofed_agent, NOW_MS);
        for shown in [Stage::Downloaded, Stage::Installing, Stage::Cancelled] {
            assert_eq!(planner.on_notice(&lamp(), &stage(shown, ""), NOW_MS), []);
        }
        let effects = planner.thing_registered(&lamp(), true, NOW_MS);
        let is_repeated = match state {
            Downloading => matches!(&effects[..], [Effect::Command(SouthCommand::Transfer(_))]),
            _ => matches!(
                &effects[..],
                [Effect::Command(SouthCommand::Install { .. })]
            ),
        };
        assert!(is_repeated, "{state:?}: {effects:?}");
        assert_eq!(
            planner.next_step(&lamp(), NOW_MS),
            [],
            "once for a registration"
        );
        // While its own report is on its way there is nothing to do.
        report_of_thing(&mut planner, state, Installing);
        assert_eq!(planner.thing_registered(&lamp(), true, NOW_MS), []);
    }
    // A transfer that may be running is still cancelled when the deployment is postponed.
    let mut planner = transferring(true);
    let postponed = report_of_thing(&mut planner, Downloading, Postponed);
    planner.thing_registered(&lamp(), true, NOW_MS);
    let effects = accept(&mut planner, postponed, 103);
    let cancel = |effect: &Effect| matches!(effect, Effect::Command(SouthCommand::Cancel { .. }));
    assert!(effects.iter().all(cancel) && effects.len() == 1);
    assert_eq!(planner.thing_registered(&lamp(), true, NOW_MS), []);
}

/// Anybody can register in the name of a Thing, with or without our object.
#[test]
fn a_registration_without_the_agent_proves_nothing_for_a_device_with_a_key() {
    for state in [Downloading, Installing, Trial] {
        let mut planner = DeploymentPlanner::default();
        planner.thing_registered(&lamp(), false, NOW_MS);
        let mut keyed = assignment(state, 100);
        keyed.device.key = Some(lamplighter_types::SecretKey::from_seed([5; 32]).public());
        let effects = planner.assigned(keyed, None, NOW_MS);
        assert!(
            effects
                .iter()
                .all(|e| matches!(e, Effect::FetchArtifact { .. })),
            "{effects:?}"
        );
        for shown in [
            Stage::Downloaded,
            Stage::Installing,
            Stage::Trial,
            Stage::Confirmed,
            Stage::Reverted,
            Stage::Rejected(UpdateResult::IntegrityCheckFailed),
        ] {
            assert_eq!(
                planner.on_notice(&lamp(), &stage(shown, "6.6.6"), NOW_MS),
                []
            );
        }
    }
}

#[test]
fn any_text_of_a_thing_is_sanitized_for_a_report() {
    let mut planner = transferring(false);
    let failed = Stage::Failed(UpdateResult::UpdateFailed);
    let words = format!("4.00 {}", "\u{1b}[2J\u{0}é".repeat(300));
    let report = report(&planner.on_notice(&lamp(), &stage(failed, &words), NOW_MS));
    lamplighter_contracts::validate::text("detail", &report.detail, 1_000).unwrap();
    assert!(report.detail.starts_with("4.00 \u{fffd}[2J"));
}

#[test]
fn for_a_thing_with_agent_the_gateway_reports_only_failures() {
    let mut planner = transferring(true);
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
        assert_eq!(planner.on_notice(&lamp(), &notice(stage), NOW_MS), []);
    }
    let stage = Stage::Failed(UpdateResult::ConnectionLost);
    let failed = report(&planner.on_notice(&lamp(), &notice(stage), NOW_MS));
    assert_eq!(
        (failed.from, failed.to, failed.code),
        (Downloading, Failed, 4)
    );
    let other = WorkNotice::Stage {
        deployment: "r0".to_owned(),
        stage: Stage::Failed(UpdateResult::ConnectionLost),
        detail: String::new(),
    };
    assert_eq!(transferring(true).on_notice(&lamp(), &other, NOW_MS), []);
}

fn document() -> DesiredDocument {
    DesiredDocument {
        device: lamp(),
        document: "{}".to_owned(),
        hash: Hash::of(b"{}"),
        reported: None,
        keyed: true,
        height: 100,
        proven_ms: NOW_MS,
        proof: Default::default(),
    }
}

fn is_sent(effects: &[Effect]) -> bool {
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
fn a_document_is_sent_once_for_each_registration() {
    let mut planner = DeploymentPlanner::default();
    assert_eq!(
        planner.set_document(document(), NOW_MS),
        [],
        "nobody is there"
    );
    assert!(is_sent(&planner.thing_registered(&lamp(), true, NOW_MS)));
    assert_eq!(planner.set_document(document(), NOW_MS), []);
    assert!(is_sent(&planner.thing_registered(&lamp(), true, NOW_MS)));
    let refused = WorkNotice::Configured {
        accepted: false,
        detail: "no place".to_owned(),
    };
    let effects = planner.on_notice(&lamp(), &refused, NOW_MS);
    assert_eq!(effects, [], "its agent reports itself");
    // The south had no room for it.
    let refused = WorkNotice::Refused {
        deployment: String::new(),
        reason: "16 commands wait".to_owned(),
    };
    assert_eq!(planner.on_notice(&lamp(), &refused, NOW_MS), []);
    assert!(is_sent(&planner.set_document(document(), NOW_MS)));
    planner.report_resolved(&OutgoingReport::Config(applied(true)), false, 5, NOW_MS);
    assert_eq!(planner.thing_registered(&lamp(), true, NOW_MS), []);
}

#[test]
fn a_thing_without_the_agent_gets_no_document() {
    let mut planner = DeploymentPlanner::default();
    assert_eq!(planner.thing_registered(&lamp(), false, NOW_MS), []);
    assert_eq!(planner.set_document(document(), NOW_MS), []);
    let refused = WorkNotice::Configured {
        accepted: false,
        detail: "4.04".to_owned(),
    };
    assert_eq!(planner.on_notice(&lamp(), &refused, NOW_MS), []);
}

#[test]
fn only_a_signed_report_ends_the_document_of_a_device_with_a_key() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    planner.set_document(document(), NOW_MS);
    planner.report_resolved(&OutgoingReport::Config(applied(false)), false, 5, NOW_MS);
    assert!(is_sent(&planner.thing_registered(&lamp(), true, NOW_MS)));
    // As a ledger may have it from before.
    let reported = |attested| ReportedConfig {
        device: lamp(),
        document: document().hash,
        applied: false,
        detail: String::new(),
        attested,
        height: 4,
    };
    for (keyed, attested, is_reported) in [
        (true, false, false),
        (true, true, true),
        (false, false, true),
    ] {
        let mut planner = DeploymentPlanner::default();
        planner.thing_registered(&lamp(), true, NOW_MS);
        let reported = Some(reported(attested));
        let document = DesiredDocument {
            reported,
            keyed,
            ..document()
        };
        let effects = planner.set_document(document, NOW_MS);
        assert_eq!(is_sent(&effects), !is_reported);
    }
}

#[test]
fn a_removed_device_is_released() {
    let mut planner = transferring(true);
    assert!(matches!(
        &planner.device_removed(&lamp())[..],
        [Effect::Command(SouthCommand::Release { .. })]
    ));
    assert!(planner.is_empty());
}

/// A time at which what was proven at [`NOW_MS`] is not recent any more.
const LATE_MS: u64 = NOW_MS + 300_000;

#[test]
fn an_order_is_proven_again_before_a_thing_that_was_away_gets_it() {
    for state in [Downloading, Downloaded] {
        let mut planner = DeploymentPlanner::default();
        planner.assigned(without_key(state, 100), None, NOW_MS);
        let artifact = without_key(state, 100).manifest.artifact;
        planner.artifact_fetched(&lamp(), &artifact, true, NOW_MS);
        let effects = planner.thing_registered(&lamp(), false, LATE_MS);
        assert_eq!(effects, [Effect::ProveAgain], "{state:?}");
        // The node proves it again, or proves that it has ended.
        let mut again = without_key(state, 200);
        again.proven_ms = LATE_MS;
        let effects = planner.assigned(again, None, LATE_MS);
        assert!(matches!(effects[..], [Effect::Command(_)]), "{effects:?}");
    }
}

#[test]
fn an_order_that_expired_in_the_south_is_repeated() {
    let mut planner = transferring(false);
    let expired = WorkNotice::Expired {
        deployment: "r1".to_owned(),
    };
    assert!(matches!(
        planner.on_notice(&lamp(), &expired, NOW_MS)[..],
        [Effect::Command(SouthCommand::Transfer(_))]
    ));
    let effects = planner.on_notice(&lamp(), &expired, LATE_MS);
    assert_eq!(effects, [Effect::ProveAgain]);
    // What is only watched needs no proof.
    let mut planner = DeploymentPlanner::default();
    planner.assigned(without_key(Installing, 100), None, NOW_MS);
    assert!(matches!(
        planner.thing_registered(&lamp(), false, LATE_MS)[..],
        [Effect::Command(SouthCommand::Watch { .. })]
    ));
}

#[test]
fn a_document_is_proven_again_before_a_thing_that_was_away_gets_it() {
    let mut planner = DeploymentPlanner::default();
    planner.set_document(document(), NOW_MS);
    let late_ms = LATE_MS + 1;
    let effects = planner.thing_registered(&lamp(), true, late_ms);
    assert_eq!(effects, [Effect::ProveAgain]);
    let again = DesiredDocument {
        proven_ms: late_ms,
        ..document()
    };
    assert!(is_sent(&planner.set_document(again, late_ms)));
    let expired = WorkNotice::Expired {
        deployment: String::new(),
    };
    assert!(is_sent(&planner.on_notice(&lamp(), &expired, late_ms)));
}

#[test]
fn an_order_that_its_thing_finds_outdated_waits_for_a_newer_proof() {
    let outdated = |deployment: &str| WorkNotice::Outdated {
        deployment: deployment.to_owned(),
    };
    let mut planner = transferring(true);
    let effects = planner.on_notice(&lamp(), &outdated("r1"), NOW_MS);
    assert_eq!(effects, [Effect::ProveAgain]);
    let mut again = assignment(Downloading, 300);
    again.proof = OrderProof {
        height: 300,
        proofs: vec![1, 2],
    };
    let effects = planner.assigned(again, None, NOW_MS);
    let [Effect::Command(SouthCommand::Proven { order, proof })] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert!(matches!(**order, SouthCommand::Transfer(_)));
    let (rollout, state) = (id("r1"), Downloading);
    let action = codec::encode(&OrderAction::Offer { rollout, state });
    assert_eq!(
        (proof.height, &proof.bytes),
        (300, &[&action[..], &[1, 2]].concat())
    );

    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    assert!(is_sent(&planner.set_document(document(), NOW_MS)));
    let effects = planner.on_notice(&lamp(), &outdated(""), NOW_MS);
    assert_eq!(effects, [Effect::ProveAgain]);
    assert!(is_sent(&planner.set_document(document(), NOW_MS)));
    let needed = WorkNotice::ChangesNeeded { trusted: 7 };
    let (device, trusted) = (lamp(), 7);
    let wanted = [Effect::FetchChanges { device, trusted }];
    assert_eq!(planner.on_notice(&lamp(), &needed, NOW_MS), wanted);
}
