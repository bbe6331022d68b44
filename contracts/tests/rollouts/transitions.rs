use lamplighter_contracts::rollouts::keys;
use lamplighter_types::*;

use crate::city::{City, id, list, plan};

use DeploymentState::*;

const ALL: [DeploymentState; 19] = [
    Assigned,
    Offered,
    WaitingConsent,
    Postponed,
    WaitingWindow,
    Downloading,
    Downloaded,
    Installing,
    Staged,
    Trial,
    Confirmed,
    Reverted,
    Failed,
    Rejected,
    TimedOut,
    Cancelled,
    Superseded,
    Removed,
    NotNeeded,
];

/// Every step that a report may make, written out.
const ALLOWED: [(DeploymentState, DeploymentState); 34] = [
    (Assigned, Offered),
    (Assigned, NotNeeded),
    (Offered, Downloading),
    (Offered, Downloaded),
    (Offered, NotNeeded),
    (Downloading, Downloaded),
    (Downloaded, Installing),
    (Installing, Staged),
    (Installing, Trial),
    (Installing, Reverted),
    (Staged, Trial),
    (Staged, Reverted),
    (Trial, Confirmed),
    (Trial, Reverted),
    (Assigned, Failed),
    (Offered, Failed),
    (WaitingConsent, Failed),
    (Postponed, Failed),
    (WaitingWindow, Failed),
    (Downloading, Failed),
    (Downloaded, Failed),
    (Installing, Failed),
    (Staged, Failed),
    (Trial, Failed),
    (Assigned, Rejected),
    (Offered, Rejected),
    (WaitingConsent, Rejected),
    (Postponed, Rejected),
    (WaitingWindow, Rejected),
    (Downloading, Rejected),
    (Downloaded, Rejected),
    (Installing, Rejected),
    (Staged, Rejected),
    (Trial, Rejected),
];

/// The ends after which a Thing may still report that it runs the release.
const ENDS_WITH_LATE_CONFIRMATION: [DeploymentState; 7] = [
    Reverted, Failed, Rejected, TimedOut, Cancelled, Superseded, Removed,
];

/// Puts the deployment of `lamp-0` into a state, with the counts that go with it.
fn plant(city: &mut City, state: DeploymentState) {
    let key = keys::deployment(&id("x"), &id("lamp-0"));
    let mut deployment = city.overlay.get(&key).unwrap().unwrap();
    deployment.state = state;
    city.overlay.put(&key, &deployment);
    let mut rollout = city.rollout("x");
    rollout.counts = RolloutCounts {
        active: 1,
        ..RolloutCounts::default()
    };
    if state == Assigned {
        rollout.counts = RolloutCounts {
            assigned: 1,
            ..RolloutCounts::default()
        };
    }
    city.overlay.put(&keys::rollout(&id("x")), &rollout);
    city.overlay.commit();
}

#[test]
fn exactly_the_steps_of_the_table_are_taken() {
    for from in ALL {
        for to in ALL {
            let mut city = City::with_lamps(1);
            city.started(&plan("x", "r1", list(&["lamp-0"])));
            plant(&mut city, from);
            let facts = city.step("x", "lamp-0", to);
            let late = to == Confirmed && ENDS_WITH_LATE_CONFIRMATION.contains(&from);
            if ALLOWED.contains(&(from, to)) {
                assert!(facts.is_ok(), "{from:?} to {to:?}: {facts:?}");
                assert_eq!(city.state_of("x", "lamp-0"), to);
            } else {
                assert_eq!(facts.is_ok(), late, "{from:?} to {to:?}: {facts:?}");
                assert!(
                    late || facts == Err("rollouts.transition"),
                    "{from:?} {to:?}: {facts:?}"
                );
                assert_eq!(city.state_of("x", "lamp-0"), from);
            }
        }
    }
}

#[test]
fn a_claimed_state_other_than_the_current_one_is_stale() {
    for from in ALL {
        let mut city = City::with_lamps(1);
        city.started(&plan("x", "r1", list(&["lamp-0"])));
        let mut report = city.next_report("x", "lamp-0", Failed);
        report.from = from;
        let expected = if from == Assigned {
            None
        } else {
            Some("rollouts.stale")
        };
        report.signature = None;
        assert_eq!(city.send("gw-1", vec![report]).err(), expected, "{from:?}");
    }
}
