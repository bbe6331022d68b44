//! A liar raises the terms of others as far as it can; nobody stays away for it.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

mod common;

use std::time::Duration;

use common::liar::{log, term};
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
async fn a_voter_whose_term_a_liar_raised_far_follows_again() {
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
async fn a_voter_whose_term_a_liar_raised_far_elects_again() {
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
