//! Things and nodes that never are content with a proof, or give an older one.

use super::*;

/// A Thing that finds whatever it gets outdated, and registers again all the time: how often the
/// node is asked for proofs in an hour, if it proves at once what it is asked for.
fn proofs_in_an_hour(
    deployment: &str,
    prove: impl Fn(&mut DeploymentPlanner, u64) -> Vec<Effect>,
) -> usize {
    let mut planner = DeploymentPlanner::default();
    let (mut now_ms, mut proofs) = (NOW_MS, 0);
    let mut effects = planner.thing_registered(&lamp(), true, now_ms);
    effects.extend(prove(&mut planner, now_ms));
    while now_ms < NOW_MS + 3_600_000 {
        for _ in 0..3 {
            let is_order = |effect: &Effect| matches!(effect, Effect::Command(_));
            if effects.iter().any(is_order) {
                let deployment = deployment.to_owned();
                let notice = WorkNotice::Outdated { deployment };
                effects = planner.on_notice(&lamp(), &notice, now_ms);
            }
            if effects.contains(&Effect::ProveAgain) {
                proofs += 1;
                effects = prove(&mut planner, now_ms);
            }
        }
        now_ms += 5_000;
        effects = planner.tick(now_ms);
        effects.extend(planner.thing_registered(&lamp(), true, now_ms));
    }
    proofs
}

#[test]
fn a_thing_that_finds_every_order_outdated_costs_ever_fewer_proofs() {
    let proofs = proofs_in_an_hour("r1", |planner, now_ms| {
        let mut assignment = assignment(Downloaded, 300);
        assignment.proven_ms = now_ms;
        planner.assigned(assignment, None, now_ms)
    });
    assert!((8..30).contains(&proofs), "{proofs}");
    let proofs = proofs_in_an_hour("", |planner, now_ms| {
        let document = DesiredDocument {
            proven_ms: now_ms,
            ..document()
        };
        planner.set_document(document, now_ms)
    });
    assert!((8..30).contains(&proofs), "{proofs}");
}

/// A node that proves an older document, which is recent enough, after a newer one.
#[test]
fn an_older_document_is_not_taken_after_a_newer_one() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let at = |height: u64, text: &str| DesiredDocument {
        document: text.to_owned(),
        hash: Hash::of(text.as_bytes()),
        height,
        ..document()
    };
    assert!(is_sent(
        &planner.set_document(at(200, r#"{"dim":9}"#), NOW_MS)
    ));
    assert_eq!(planner.set_document(at(199, r#"{"dim":1}"#), NOW_MS), []);
    // What the Thing gets when it registers again is the newer one, which it then reports.
    let effects = planner.thing_registered(&lamp(), true, NOW_MS);
    let [Effect::Command(SouthCommand::Configure { document, .. })] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(document, br#"{"dim":9}"#);
    let reported = DesiredDocument {
        reported: Some(ReportedConfig {
            device: lamp(),
            document: Hash::of(br#"{"dim":9}"#),
            applied: true,
            detail: String::new(),
            attested: true,
            height: 200,
        }),
        ..at(201, r#"{"dim":9}"#)
    };
    assert_eq!(planner.set_document(reported, NOW_MS), []);
    assert_eq!(planner.set_document(at(200, r#"{"dim":9}"#), NOW_MS), []);
    assert!(is_sent(
        &planner.set_document(at(202, r#"{"dim":1}"#), NOW_MS)
    ));
}

/// A proof of before the report, which comes after it.
#[test]
fn an_older_proof_does_not_bring_back_a_document_that_the_ledger_has_a_report_of() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let at = |height| DesiredDocument {
        height,
        ..document()
    };
    assert!(is_sent(&planner.set_document(at(200), NOW_MS)));
    let report = OutgoingReport::Config(applied(true));
    assert_eq!(planner.report_resolved(&report, false, 210, NOW_MS), []);
    assert_eq!(planner.set_document(at(209), NOW_MS), []);
    assert_eq!(planner.thing_registered(&lamp(), true, NOW_MS), []);
    assert!(is_sent(&planner.set_document(at(210), NOW_MS)));
}

/// A Thing that is never content is not asked more often because its documents change.
#[test]
fn another_document_waits_for_the_end_of_a_pause() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let outdated = WorkNotice::Outdated {
        deployment: String::new(),
    };
    let at = |height: u64, proven_ms| DesiredDocument {
        hash: Hash::of(&height.to_be_bytes()),
        height,
        proven_ms,
        ..document()
    };
    for height in [200, 201] {
        assert!(is_sent(&planner.set_document(at(height, NOW_MS), NOW_MS)));
        let effects = planner.on_notice(&lamp(), &outdated, NOW_MS);
        let is_paused = height == 201;
        assert_eq!(effects.contains(&Effect::ProveAgain), !is_paused);
    }
    assert_eq!(planner.set_document(at(202, NOW_MS), NOW_MS), []);
    assert_eq!(planner.tick(NOW_MS + 1_000), []);
    assert!(is_sent(&planner.tick(NOW_MS + 5_000)));
}
