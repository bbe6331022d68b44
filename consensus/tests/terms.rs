//! A liar raises the terms of others as far as it can; nobody stays away for it.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

mod common;

use std::time::Duration;

use common::liar::{accepted, heartbeat, log, proof, term};
use common::{Cluster, TIMEOUT};
use lamplighter_consensus::wire::{self, ControlRequest, ControlResponse, LogId, Vote};
use lamplighter_consensus::{NodeId, RaftLane};
use openraft::raft::VoteRequest;
use tokio::time::{sleep, timeout};

/// The most terms by which a candidate may be ahead.
const STEP: u64 = 1 << 24;

/// Asks for a node's vote in a liar's name; returns whether it was given.
async fn ask_for_vote(
    cluster: &Cluster,
    (to, liar): (NodeId, NodeId),
    term: u64,
    last: Option<LogId>,
) -> bool {
    let request = ControlRequest::Vote {
        request: VoteRequest::new(Vote::new(term, liar), last),
        log_proof: None,
    };
    let bytes = wire::encode(&request).into();
    let answer = cluster.node(to).serve(liar, RaftLane::Control, bytes).await;
    match wire::decode("answer", &answer.unwrap()).unwrap() {
        ControlResponse::Vote { response, .. } => response.vote_granted,
        other => panic!("{other:?}"),
    }
}

/// A cluster of which a liar raised the term of one node in five steps while that node was cut off
/// from all others. Returns that node and its term; the liar is down.
async fn with_one_far_ahead(cluster: &mut Cluster) -> (NodeId, u64) {
    cluster.propose("before").await.unwrap();
    cluster.agree().await;
    let leader = cluster.leader().await;
    let mut followers = (1..=4).filter(|node| *node != leader);
    let (far, liar) = (followers.next().unwrap(), followers.next().unwrap());
    let last = log(cluster, far).last().copied();
    let begin = term(cluster, leader);
    cluster.net.cut(far);
    // The leader's lease is over.
    sleep(Duration::from_secs(4)).await;
    for step in 1..=5 {
        let raised = begin + step * STEP;
        assert!(ask_for_vote(cluster, (far, liar), raised, last).await);
    }
    cluster.kill(liar).await;
    (far, begin + 5 * STEP)
}

/// The others have a leader, which needs that voter for its quorum.
#[tokio::test(start_paused = true)]
async fn a_voter_that_a_liar_raised_far_follows_again() {
    let mut cluster = Cluster::start(4).await;
    let (far, raised) = with_one_far_ahead(&mut cluster).await;
    cluster.net.heal();
    let proposed = timeout(TIMEOUT, cluster.propose("after")).await;
    proposed.unwrap().unwrap();
    cluster.agree().await;
    assert!(term(&cluster, far) > raised);
}

/// The others have no leader either: all three begin anew.
#[tokio::test(start_paused = true)]
async fn a_voter_that_a_liar_raised_far_elects_again() {
    let mut cluster = Cluster::start(4).await;
    let (far, raised) = with_one_far_ahead(&mut cluster).await;
    let nodes: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    for node in &nodes {
        cluster.kill(*node).await;
    }
    cluster.net.heal();
    for node in &nodes {
        cluster.restart(*node).await;
    }
    let proposed = timeout(TIMEOUT, cluster.propose("after")).await;
    proposed.unwrap().unwrap();
    cluster.agree().await;
    assert!(term(&cluster, far) > raised);
}

/// While it was down, elections with a liar raised the terms of the others by more than one node's
/// word may. It follows a leader that has proven itself, and is elected or elects without one.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_down_comes_back_whatever_the_terms_are() {
    let mut cluster = Cluster::start(4).await;
    cluster.propose("before").await.unwrap();
    cluster.agree().await;
    let term_before = term(&cluster, cluster.leader().await);
    let away = cluster.follower().await;
    cluster.kill(away).await;
    let leader = cluster.leader().await;
    let liar = cluster.follower().await;
    let last = *log(&cluster, leader).last().unwrap();
    for step in 1..=2 {
        let raised = term_before + (step << 24);
        let proof = proof(&cluster, raised, liar, Some(last), &[1, 2, 3, 4]);
        let vote = Vote::new_committed(raised, liar);
        let at = (Some(last), Some(last));
        for node in (1..=4).filter(|node| ![away, liar].contains(node)) {
            let answer = heartbeat(&cluster, node, vote, at, Some(proof.clone())).await;
            assert!(accepted(&answer), "{answer:?}");
        }
    }
    cluster.kill(liar).await;
    cluster.restart(away).await;
    cluster.propose("without the liar").await.unwrap();
    assert!(term(&cluster, away) > term_before + (2 << 24));
    // All three are needed; this one learns it of a leader.
    cluster.kill(away).await;
    cluster.restart(away).await;
    cluster.propose("again").await.unwrap();
}
