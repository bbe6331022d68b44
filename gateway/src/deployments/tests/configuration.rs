//! Configuration of devices without our agent.

use super::*;
use crate::lwm2m::resource::ResourceValue;

const MAPPED: &str = r#"{"dim":80,"lwm2m":{"resources":{
    "/3311/0/5851":{"key":"/dim","type":"integer","max":100}}}}"#;

fn of(text: &str) -> DesiredDocument {
    DesiredDocument {
        document: text.to_owned(),
        hash: Hash::of(text.as_bytes()),
        keyed: false,
        ..document()
    }
}

/// The values of the one command among the effects.
fn values(effects: &[Effect]) -> Vec<(String, ResourceValue)> {
    match effects {
        [Effect::Command(SouthCommand::Apply { values, .. })] => values
            .iter()
            .map(|one| (one.path.to_string(), one.value.clone()))
            .collect(),
        other => panic!("expected values to write, got {other:?}"),
    }
}

fn report(effects: &[Effect]) -> ConfigReport {
    match effects {
        [Effect::Report(report)] => match &**report {
            OutgoingReport::Config(report) => report.clone(),
            other => panic!("another report: {other:?}"),
        },
        other => panic!("expected a report, got {other:?}"),
    }
}

fn written(text: &str, applied: bool) -> WorkNotice {
    WorkNotice::Applied {
        document: Hash::of(text.as_bytes()),
        applied,
        detail: "1 of 1 resources written".to_owned(),
    }
}

fn planner() -> DeploymentPlanner {
    let mut planner = DeploymentPlanner::default();
    assert_eq!(planner.thing_registered(&lamp(), false, NOW_MS), []);
    planner
}

#[test]
fn a_mapped_document_is_written_once_for_each_registration_until_it_is_reported() {
    let mut planner = planner();
    let expected = [("/3311/0/5851".to_owned(), ResourceValue::Integer(80))];
    let effects = planner.set_document(of(MAPPED), NOW_MS);
    assert_eq!(values(&effects), expected);
    assert_eq!(
        planner.set_document(of(MAPPED), NOW_MS),
        [],
        "it is under way"
    );
    let effects = planner.thing_registered(&lamp(), false, NOW_MS);
    assert_eq!(values(&effects), expected, "it may have been lost");
    let first = report(&planner.on_notice(&lamp(), &written(MAPPED, true), NOW_MS));
    assert!(first.applied && first.signature.is_none());
    assert_eq!(first.document, Hash::of(MAPPED.as_bytes()));
    // While the report is on its way nothing is written again.
    assert_eq!(planner.thing_registered(&lamp(), false, NOW_MS), []);
    assert_eq!(planner.set_document(of(MAPPED), NOW_MS), []);
    // The ledger refused it: the next reminder of the node begins again, with another counter.
    let outgoing = OutgoingReport::Config(first.clone());
    assert_eq!(planner.report_resolved(&outgoing, true, 0, NOW_MS), []);
    let effects = planner.set_document(of(MAPPED), NOW_MS);
    assert_eq!(values(&effects), expected);
    let second = report(&planner.on_notice(&lamp(), &written(MAPPED, true), NOW_MS));
    assert!(second.counter > first.counter);
    let outgoing = OutgoingReport::Config(second);
    planner.report_resolved(&outgoing, false, 5, NOW_MS);
    assert_eq!(
        planner.thing_registered(&lamp(), false, NOW_MS),
        [],
        "it is done"
    );
}

#[test]
fn a_document_that_does_not_fit_is_reported_and_not_written() {
    let mut planner = planner();
    let too_much = MAPPED.replace("80", "101");
    let failed = report(&planner.set_document(of(&too_much), NOW_MS));
    assert!(!failed.applied && failed.detail.starts_with("lwm2m.range: "));
    assert_eq!(planner.set_document(of(&too_much), NOW_MS), [], "once");
    assert_eq!(planner.thing_registered(&lamp(), false, NOW_MS), []);
    // Without a mapping the document is not for devices without our agent.
    assert_eq!(planner.set_document(of(r#"{"dim":1}"#), NOW_MS), []);
    let none = r#"{"lwm2m":{"resources":{}}}"#;
    assert!(report(&planner.set_document(of(none), NOW_MS)).applied);
}

#[test]
fn a_result_counts_for_the_document_that_is_desired_now_and_for_a_device_without_a_key() {
    let mut planner = planner();
    planner.set_document(of(MAPPED), NOW_MS);
    let newer = MAPPED.replace("80", "70");
    planner.set_document(of(&newer), NOW_MS);
    assert_eq!(
        planner.on_notice(&lamp(), &written(MAPPED, true), NOW_MS),
        []
    );
    let keyed = DesiredDocument {
        keyed: true,
        ..of(&newer)
    };
    planner.set_document(keyed.clone(), NOW_MS);
    assert_eq!(
        planner.on_notice(&lamp(), &written(&newer, true), NOW_MS),
        []
    );
    // Nobody but the device itself could say that it has it.
    assert_eq!(planner.thing_registered(&lamp(), false, NOW_MS), []);
    assert_eq!(planner.set_document(keyed, NOW_MS), []);
}

#[test]
fn values_are_not_written_after_an_old_proof() {
    let mut planner = planner();
    let old_ms = NOW_MS + 301_000;
    let effects = planner.set_document(of(MAPPED), old_ms);
    assert_eq!(effects, [Effect::ProveAgain]);
    let again = DesiredDocument {
        proven_ms: old_ms,
        ..of(MAPPED)
    };
    assert_eq!(values(&planner.set_document(again, old_ms)).len(), 1);
}
