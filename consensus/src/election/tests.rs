use std::collections::BTreeSet;
use std::sync::Arc;

use super::proof::is_quorum;
use super::*;
use crate::answer_check::{TERMS_ADOPTED_MAX, TERMS_AHEAD_MAX};
use crate::suite::{SharedVoters, TestElectorate};
use crate::types::{LogId, Vote};

fn electorate(node: NodeId, voters: &Arc<SharedVoters>) -> Arc<TestElectorate> {
    Arc::new(TestElectorate {
        node,
        voters: voters.clone(),
    })
}

fn proof(voters: &Arc<SharedVoters>, signers: &[NodeId]) -> ElectionProof {
    let mut proof = ElectionProof {
        term: 3,
        candidate: 1,
        last_log_id: Some(LogId::new(LeaderId::new(2, 4), 17)),
        votes: Vec::new(),
    };
    for node in signers {
        let electorate = electorate(*node, voters);
        let statement = proof.statement(&electorate.chain_id(), *node);
        proof.votes.push(SignedVote {
            voter: *node,
            signature: SignatureBytes(electorate.sign(&statement)),
        });
    }
    proof
}

/// The bytes that a voter signs are a format.
#[test]
fn the_statement_of_a_vote() {
    let voters = Arc::default();
    let statement = proof(&voters, &[]).statement(&[0xcc; 32], 5);
    let number = |number: u64| hex::encode(number.to_le_bytes());
    let expected = hex::encode(b"lamplighter/raft-vote/2\0")
        + &"cc".repeat(32)
        + &[3, 1, 5].map(number).concat()
        + "01"
        + &[2, 4, 17].map(number).concat();
    assert_eq!(hex::encode(statement), expected);
    let empty = ElectionProof {
        last_log_id: None,
        ..proof(&voters, &[])
    };
    let empty = empty.statement(&[0xcc; 32], 5);
    assert!(empty.ends_with(&[0; 25]), "no log is no entry of index 0");
}

#[test]
fn a_quorum_is_that_of_a_certificate() {
    let quorums: Vec<usize> = (1..=10).map(quorum).collect();
    assert_eq!(quorums, [1, 2, 2, 3, 4, 4, 5, 6, 6, 7]);
    for voters in 1..=64usize {
        let liars = (voters - 1) / 3;
        let common = 2 * quorum(voters) - voters;
        assert!(
            common > liars,
            "{voters}: two quorums share an honest voter"
        );
    }
    let (four, three) = (BTreeSet::from([1, 2, 3, 4]), BTreeSet::from([3, 4, 5]));
    let joint = [four, three];
    assert!(is_quorum(&joint, &[1, 3, 4].into()));
    assert!(!is_quorum(&joint, &[1, 2, 3].into()), "of each part");
    assert!(!is_quorum(&joint, &[3, 4, 5].into()), "of each part");
    assert!(!is_quorum(&[], &[1, 2, 3].into()), "of nobody");
}

#[test]
fn excluded_voters_and_strangers_elect_no_leader() {
    let voters = Arc::<SharedVoters>::default();
    let sets = vec![vec![BTreeSet::from([1, 2, 3, 4])]];
    let subject = electorate(9, &voters);
    let valid = |proof: &ElectionProof| proof.is_valid(&sets, &*subject);
    assert!(valid(&proof(&voters, &[1, 2, 3])));
    assert!(
        valid(&proof(&voters, &[1, 2, 3, 77])),
        "a stranger more does not matter"
    );
    assert!(!valid(&proof(&voters, &[1, 2, 77])));
    assert!(!valid(&proof(&voters, &[1, 2, 2])));
    assert!(
        !valid(&proof(&voters, &(1..=65).collect::<Vec<_>>())),
        "too many"
    );
    voters.exclude(3);
    assert!(!valid(&proof(&voters, &[1, 2, 3])));
}

/// A node with the entries of a leadership that a liar's vote completed may be elected with them,
/// by voters that did not know of it. Otherwise nobody could be, where too few others know.
#[test]
fn the_entries_of_a_leadership_count_though_a_voter_of_then_lied() {
    let shared = Arc::<SharedVoters>::default();
    shared.set(BTreeSet::from([1, 2, 3, 4]));
    let voters = Arc::new(Voters::new(electorate(2, &shared)));
    let proven = ProvenLeaders::new(2, voters, Vec::new());
    let shown = proof(&shared, &[1, 3, 4]);
    let claimed = Some(LogId::new(shown.leader(), 8));
    shared.exclude(4);
    assert!(proven.believes(claimed, None, Some(&shown)));
    let vote = Vote::new_committed(shown.term, shown.candidate);
    let leads = proven.check(&vote, Some(shown));
    assert!(matches!(leads, Standing::Unproven), "{leads:?}");
    let few = proof(&shared, &[1, 4]);
    assert!(!proven.believes(claimed, None, Some(&few)));
}

/// A voter signs once for a leader, and nothing for an earlier one.
#[test]
fn a_second_candidacy_with_another_log_gets_no_signature() {
    let shared = Arc::<SharedVoters>::default();
    let voters = Arc::new(Voters::new(electorate(2, &shared)));
    let proven = ProvenLeaders::new(2, voters, Vec::new());
    let log = |index| Some(LogId::new(LeaderId::new(2, 4), index));
    let leader = LeaderId::new(3, 1);
    let first = proven.sign(leader, log(5));
    assert!(first.is_some());
    assert_eq!(proven.sign(leader, log(5)), first);
    assert_eq!(proven.sign(leader, log(6)), None);
    assert_eq!(proven.sign(LeaderId::new(2, 9), log(5)), None);
    assert!(proven.sign(LeaderId::new(3, 2), log(6)).is_some());
}

/// The proofs that are kept are few, and those of the last entry and of the newest leadership are
/// among them.
#[test]
fn kept_proofs_are_bounded() {
    let shared = Arc::<SharedVoters>::default();
    let voters = Arc::new(Voters::new(electorate(2, &shared)));
    let proven = ProvenLeaders::new(2, voters, Vec::new());
    let last = Some(LogId::new(LeaderId::new(5, 1), 17));
    for term in 1..50 {
        let new = ElectionProof {
            term,
            ..proof(&shared, &[1])
        };
        proven.replace(proven.with(&new, last));
    }
    let terms: Vec<u64> = (1..60)
        .filter(|term| proven.knows(LeaderId::new(*term, 1)))
        .collect();
    assert_eq!(terms, [5, 43, 44, 45, 46, 47, 48, 49]);
}

/// The voters of a node whose log and whose applied entries end with these sets.
fn voters(
    node: NodeId,
    shared: &Arc<SharedVoters>,
    of_log: Vec<BTreeSet<NodeId>>,
    applied: Vec<BTreeSet<NodeId>>,
) -> Arc<Voters> {
    let voters = Arc::new(Voters::new(electorate(node, shared)));
    let mut metrics = crate::types::RaftMetrics::new_initial(node);
    let members = crate::types::Membership::new(of_log, ());
    let stored = crate::types::StoredMembership::new(None, members);
    metrics.membership_config = Arc::new(stored);
    let applied_voters = Arc::new(AppliedVoters::default());
    applied_voters.set(applied);
    voters.connect(tokio::sync::watch::channel(metrics).1, applied_voters);
    voters
}

/// The candidacy of node 1 of so many voters.
fn candidacy(count: u64, shared: &Arc<SharedVoters>) -> Candidacy {
    let of_log = vec![(1..=count).collect()];
    Candidacy::new(1, voters(1, shared, of_log, Vec::new()))
}

/// The last entry of node 4's log makes it a voter, and is in no other log. The others elect
/// without it; of the three that still vote one is gone.
#[test]
fn a_leader_of_the_applied_voters_is_believed() {
    let shared = Arc::<SharedVoters>::default();
    shared.set(BTreeSet::from([1, 2, 3, 4]));
    let (three, four) = (BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 3, 4]));
    let joint = vec![three.clone(), four];
    let standing = |applied: Vec<BTreeSet<NodeId>>| {
        let voters = voters(4, &shared, joint.clone(), applied);
        let proven = ProvenLeaders::new(4, voters, Vec::new());
        proven.check(&Vote::new_committed(3, 1), Some(proof(&shared, &[1, 2])))
    };
    assert!(matches!(standing(Vec::new()), Standing::Unproven));
    assert!(matches!(standing(vec![three]), Standing::New(_)));
}

/// What voters claim in refusals is believed if more name it than can lie.
#[test]
fn one_voter_raises_no_term_of_four() {
    let shared = Arc::<SharedVoters>::default();
    let candidacy = candidacy(4, &shared);
    candidacy.stand(&Vote::new(7, 1), None);
    let leader = LeaderId::new(7, 1);
    candidacy.refuse(leader, 2, LeaderId::new(1_000, 2));
    assert_eq!(candidacy.believed_refusal(), None);
    candidacy.refuse(leader, 3, LeaderId::new(9, 3));
    assert_eq!(candidacy.believed_refusal(), Some(LeaderId::new(9, 3)));
    candidacy.refuse(leader, 4, LeaderId::new(8, 4));
    assert_eq!(candidacy.believed_refusal(), Some(LeaderId::new(9, 3)));
    candidacy.stand(&Vote::new(10, 1), None);
    assert_eq!(
        candidacy.believed_refusal(),
        None,
        "of the newest candidacy"
    );
    // The one that can lie is proven to: it is heard no more, and each of the others is.
    let leader = LeaderId::new(10, 1);
    candidacy.refuse(leader, 4, LeaderId::new(1_000, 4));
    candidacy.refuse(leader, 2, LeaderId::new(17, 2));
    shared.exclude(4);
    assert_eq!(
        candidacy.believed_refusal(),
        Some(LeaderId::new(17, 2)),
        "or node 2 would have to be caught up with term by term"
    );
}

/// A node was down while a liar raised the terms of the others by more than one node's word may.
#[test]
fn two_voters_are_believed_with_any_term_and_one_raises_it_by_a_step() {
    let shared = Arc::<SharedVoters>::default();
    shared.set(BTreeSet::from([1, 2, 3, 4]));
    let candidacy = candidacy(4, &shared);
    candidacy.stand(&Vote::new(7, 1), None);
    let leader = LeaderId::new(7, 1);
    let beyond = 7 + TERMS_AHEAD_MAX + 1;
    candidacy.refuse(leader, 2, LeaderId::new(u64::MAX, 2));
    assert_eq!(candidacy.believed_refusal(), None);
    let far = LeaderId::new(beyond, 3);
    candidacy.refuse(leader, 3, far);
    assert_eq!(candidacy.believed_refusal(), Some(far));
    // Once the liar is proven, one voter is believed, but it raises the term by a step only.
    candidacy.stand(&Vote::new(8, 1), None);
    shared.exclude(2);
    let leader = LeaderId::new(8, 1);
    candidacy.refuse(leader, 3, far);
    let step = LeaderId::new(8 + TERMS_ADOPTED_MAX, 3);
    assert_eq!(candidacy.believed_refusal(), Some(step));
    let near = LeaderId::new(8 + TERMS_ADOPTED_MAX - 1, 3);
    candidacy.refuse(leader, 3, near);
    assert_eq!(candidacy.believed_refusal(), Some(near));
}

/// A liar raised the term of a voter whose log is short, and is silent since: four of the five are
/// a quorum, and the short one neither wins nor votes for a lower term.
#[test]
fn a_voter_without_which_there_is_no_quorum_is_believed() {
    let shared = Arc::<SharedVoters>::default();
    shared.set(BTreeSet::from([1, 2, 3, 4, 5]));
    let candidacy = candidacy(5, &shared);
    candidacy.stand(&Vote::new(7, 1), None);
    let leader = LeaderId::new(7, 1);
    let far = LeaderId::new(1_000_000, 5);
    candidacy.refuse(leader, 5, far);
    assert_eq!(candidacy.believed_refusal(), None);
    let statement = candidacy.proof(leader).unwrap();
    for voter in [2, 3] {
        assert_eq!(candidacy.believed_refusal(), None, "without node {voter}");
        let electorate = electorate(voter, &shared);
        let bytes = statement.statement(&electorate.chain_id(), voter);
        let signature = SignatureBytes(electorate.sign(&bytes));
        assert!(candidacy.add(leader, voter, &signature));
    }
    assert_eq!(candidacy.believed_refusal(), Some(far));
}
