use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::Metrics;
use lamplighter_types::protocol::PROTOCOL_VERSION;
use lamplighter_types::{Id, Protocol, SecretKey, Validator, ValidatorSet};
use tokio::time::Instant;

use super::{LEADER_GRACE, LastingFaults, VOTER_GRACE, faults_of_votes, newer_protocol};
use crate::alarms::NodeAlarm;
use crate::membership::{Membership, NamedNodes};

fn membership(validators: &[u64]) -> Membership {
    let validator = |node: &u64| Validator {
        node: *node,
        account: Id::new(format!("node-{node}")).unwrap(),
        key: SecretKey::from_seed([*node as u8; 32]).public(),
        address: String::new(),
    };
    Membership::certified(NamedNodes {
        validators: Arc::new(ValidatorSet {
            validators: validators.iter().map(validator).collect(),
        }),
        observers: Vec::new(),
    })
}

fn metrics(leader: Option<u64>, voters: &[u64]) -> Metrics {
    Metrics {
        node_id: 1,
        term: 3,
        leader,
        role: "Follower",
        failure: None,
        last_log_index: None,
        applied_index: None,
        snapshot_index: None,
        purged_index: None,
        voters: voters.iter().copied().collect(),
        learners: BTreeSet::new(),
        matched_index: Default::default(),
        quorum_ack_age_ms: None,
        syncs: 0,
        differs_at: None,
        incoming: None,
    }
}

#[test]
fn a_protocol_version_to_come_that_the_program_does_not_know_is_a_fault() {
    let with = |next| Protocol { version: 1, next };
    assert_eq!(newer_protocol(&with(None)), None);
    assert_eq!(newer_protocol(&with(Some((PROTOCOL_VERSION, 900)))), None);
    let newer = newer_protocol(&with(Some((PROTOCOL_VERSION + 1, 900)))).unwrap();
    let text = newer.to_string();
    let version = format!("protocol version {} begins", PROTOCOL_VERSION + 1);
    assert!(text.contains(&version), "{text}");
    assert!(text.contains("block 900"), "{text}");
}

#[test]
fn a_leader_that_the_ledger_does_not_name_is_a_fault() {
    let of = |leader, announced: &[u64]| {
        let announced = announced.iter().copied().collect();
        let metrics = metrics(leader, &[1, 2, 3, 4]);
        faults_of_votes(&metrics, &membership(&[1, 2, 3, 4]), &announced)
    };
    assert_eq!(of(Some(4), &[]), []);
    assert_eq!(of(None, &[]), []);
    assert_eq!(of(Some(5), &[]), [NodeAlarm::LeaderNoElector { leader: 5 }]);
    assert_eq!(of(Some(5), &[5]), [], "this node is behind");
}

/// An observer made itself the only voter.
#[test]
fn a_validator_without_a_vote_is_a_fault() {
    let of = |voters: &[u64]| {
        let metrics = metrics(Some(1), voters);
        faults_of_votes(&metrics, &membership(&[1, 2]), &BTreeSet::new())
    };
    assert_eq!(of(&[1, 2]), []);
    let one = NodeAlarm::ValidatorNoVoter { node: 1 };
    let two = NodeAlarm::ValidatorNoVoter { node: 2 };
    assert_eq!(of(&[1]), std::slice::from_ref(&two));
    assert_eq!(of(&[5]), [one, two]);
}

#[tokio::test]
async fn a_fault_counts_when_it_lasts_and_ends_with_its_cause() {
    let mut faults = LastingFaults::default();
    let leader = NodeAlarm::LeaderNoElector { leader: 5 };
    let voter = NodeAlarm::ValidatorNoVoter { node: 2 };
    let both = vec![leader.clone(), voter.clone()];
    let start = Instant::now();
    let almost = start + LEADER_GRACE - Duration::from_millis(1);
    assert_eq!(faults.lasting(both.clone(), start), []);
    assert_eq!(faults.lasting(both.clone(), almost), []);
    assert_eq!(faults.lasting(both.clone(), start + LEADER_GRACE), [leader]);
    assert_eq!(faults.lasting(both.clone(), start + VOTER_GRACE), both);
    assert_eq!(faults.lasting(Vec::new(), start + VOTER_GRACE), []);
    assert_eq!(faults.lasting(both, start + 2 * VOTER_GRACE), []);
}
