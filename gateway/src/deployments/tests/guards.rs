//! Installations of plans with windows, consent and update locks.

use std::time::Duration;

use lamplighter_types::{ConsentFrom, InstallRules, MaintenanceWindow};

use super::*;
use crate::south::InstallLimits;

/// [`NOW_MS`] is 2026-09-21 14:13:20 in Greenwich, so many seconds before the next window.
const SECONDS_TO_WINDOW: u64 = 42_400;
const OPENS_MS: u64 = NOW_MS + SECONDS_TO_WINDOW * 1_000;

fn nightly() -> InstallRules {
    InstallRules {
        windows: vec![MaintenanceWindow {
            schedule: "0 2 * * *".to_owned(),
            minutes: 60,
            zone: "UTC".to_owned(),
        }],
        consent: Vec::new(),
        wait_ms_max: 604_800_000,
    }
}

fn asking() -> InstallRules {
    InstallRules {
        windows: Vec::new(),
        consent: vec![ConsentFrom::Operator],
        ..nightly()
    }
}

/// The proof at `now_ms` of a deployment with these rules.
fn guarded(state: DeploymentState, rules: &InstallRules, height: u64, now_ms: u64) -> Assignment {
    Assignment {
        rules: Some(rules.clone()),
        proven_ms: now_ms,
        ..assignment(state, height)
    }
}

fn limits(effects: &[Effect]) -> InstallLimits {
    let [Effect::Command(SouthCommand::Install { limits, .. })] = effects else {
        panic!("{effects:?}")
    };
    *limits
}

#[test]
fn an_order_waits_for_its_window_and_the_ledger_hears_of_it() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let held = planner.assigned(guarded(Downloaded, &nightly(), 100, NOW_MS), None, NOW_MS);
    let waiting = report(&held);
    assert_eq!((waiting.from, waiting.to), (Downloaded, WaitingWindow));
    assert_eq!(u64::from(waiting.code), SECONDS_TO_WINDOW);
    assert!(accept(&mut planner, waiting, 101).is_empty());
    // Registrations and repeated proofs give no order before the window.
    let before_ms = OPENS_MS - 1;
    assert!(
        planner
            .thing_registered(&lamp(), true, before_ms)
            .is_empty()
    );
    let again = guarded(WaitingWindow, &nightly(), 102, before_ms);
    assert!(planner.assigned(again, None, before_ms).is_empty());
    assert!(planner.tick(before_ms).is_empty());
    let ordered = planner.tick(OPENS_MS);
    assert_eq!(limits(&ordered).open_for, Some(Duration::from_secs(3_600)));
    // The order was not taken before the window ended.
    let expired = WorkNotice::Expired {
        deployment: "r1".to_owned(),
    };
    let closes_ms = OPENS_MS + 3_600_000;
    assert!(planner.on_notice(&lamp(), &expired, closes_ms).is_empty());
    let next_ms = OPENS_MS + 86_400_000;
    let again = guarded(WaitingWindow, &nightly(), 103, next_ms);
    let ordered = planner.assigned(again, None, next_ms + 300_000);
    assert_eq!(limits(&ordered).open_for, Some(Duration::from_secs(3_300)));
}

#[test]
fn what_was_proven_before_the_window_is_proven_again() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let waiting = guarded(WaitingWindow, &nightly(), 100, NOW_MS);
    assert!(planner.assigned(waiting, None, NOW_MS).is_empty());
    assert_eq!(planner.tick(OPENS_MS), [Effect::ProveAgain]);
}

#[test]
fn a_window_of_an_unknown_zone_keeps_the_order_with_the_reason() {
    let mut rules = nightly();
    rules.windows[0].zone = "Mars/Olympus_Mons".to_owned();
    rules.windows[0].schedule = "* * * * *".to_owned();
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let held = report(&planner.assigned(guarded(Downloaded, &rules, 100, NOW_MS), None, NOW_MS));
    assert_eq!(held.to, WaitingWindow);
    assert!(held.detail.contains("Mars/Olympus_Mons"), "{}", held.detail);
    assert!(accept(&mut planner, held, 101).is_empty());
    assert!(planner.tick(NOW_MS + 600_000).is_empty());
}

#[test]
fn nothing_is_ordered_before_the_ledger_shows_a_consent() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let transfer = planner.assigned(guarded(Downloading, &asking(), 100, NOW_MS), None, NOW_MS);
    assert!(matches!(transfer[..], [Effect::FetchArtifact { .. }]));
    let downloaded = report_of_thing(&mut planner, Downloading, Downloaded);
    // The ledger leads on to waiting_consent in the block that accepts the report.
    assert!(accept(&mut planner, downloaded, 101).is_empty());
    assert!(planner.thing_registered(&lamp(), true, NOW_MS).is_empty());
    let waits = guarded(WaitingConsent, &asking(), 101, NOW_MS);
    assert!(planner.assigned(waits, None, NOW_MS).is_empty());
    let consented = guarded(Downloaded, &asking(), 102, NOW_MS);
    let ordered = planner.assigned(consented, None, NOW_MS);
    assert_eq!(limits(&ordered).open_for, None);
    let withdrawn = guarded(WaitingConsent, &asking(), 103, NOW_MS);
    assert!(planner.assigned(withdrawn, None, NOW_MS).is_empty());
    assert!(planner.thing_registered(&lamp(), true, NOW_MS).is_empty());
}

#[test]
fn a_busy_thing_is_postponed_on_the_ledger_until_that_refuses() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let rules = InstallRules {
        windows: Vec::new(),
        ..nightly()
    };
    let ordered = planner.assigned(guarded(Downloaded, &rules, 100, NOW_MS), None, NOW_MS);
    assert!(limits(&ordered).asks_lock);
    let busy = WorkNotice::Locked {
        deployment: "r1".to_owned(),
        busy_s: 600,
    };
    let postponed = report(&planner.on_notice(&lamp(), &busy, NOW_MS));
    assert_eq!((postponed.to, postponed.code), (Postponed, 600));
    assert!(accept(&mut planner, postponed, 101).is_empty());
    assert!(planner.thing_registered(&lamp(), true, NOW_MS).is_empty());
    let over = guarded(Downloaded, &rules, 102, NOW_MS);
    assert!(limits(&planner.assigned(over, None, NOW_MS)).asks_lock);
    let postponed = report(&planner.on_notice(&lamp(), &busy, NOW_MS));
    let refused = OutgoingReport::Deployment(postponed);
    planner.report_resolved(&refused, true, 103, NOW_MS);
    let ordered = planner.tick(NOW_MS + 60_000);
    assert!(!limits(&ordered).asks_lock, "its caps are used up");
}

#[test]
fn a_plan_without_guards_is_carried_out_as_before() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), true, NOW_MS);
    let ordered = planner.assigned(assignment(Downloaded, 100), None, NOW_MS);
    assert_eq!(limits(&ordered), InstallLimits::default());
}

#[test]
fn a_thing_without_our_agent_is_reported_on_from_its_wait() {
    let mut planner = DeploymentPlanner::default();
    planner.thing_registered(&lamp(), false, NOW_MS);
    let mut waiting = guarded(WaitingWindow, &nightly(), 100, OPENS_MS);
    waiting.device.key = None;
    let ordered = planner.assigned(waiting, None, OPENS_MS);
    assert!(limits(&ordered).asks_lock);
    let effects = planner.on_notice(&lamp(), &stage(Stage::Installing, ""), OPENS_MS);
    assert_eq!(steps(&effects), [(WaitingWindow, Installing)]);
}
