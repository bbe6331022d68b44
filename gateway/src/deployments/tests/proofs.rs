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
