//! A hostile observer, and a hostile voter, against a cluster: every field of every message, by
//! a node that was not elected and by one that was.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::liar::{accepted, append, blank, heartbeat, log, log_id, membership, proof, term};
use common::{Cluster, TIMEOUT};
use lamplighter_consensus::wire::{
    self, AppendAnswer, AppendRequest, AppendResponse, ControlRequest, ControlResponse,
    ElectionProof, EntryPayload, FileInfo, LogId, Manifest, ProposedBatch, RaftLogEntry,
    SignatureBytes, SnapshotMeta, SnapshotRequest, SnapshotResponse, StoredMembership, Vote,
};
use lamplighter_consensus::{Limits, NodeId, RaftLane, ServeError};
use openraft::raft::{VoteRequest, VoteResponse};
use tokio::time::sleep;

const OBSERVER: NodeId = 9;

/// Every node is up, at the term and under the leader of before, and the cluster works.
async fn check_undisturbed(cluster: &Cluster, leader: NodeId, term_before: u64) {
    cluster.propose("after").await.unwrap();
    cluster.agree().await;
    for node in cluster.nodes.keys() {
        let metrics = cluster.node(*node).metrics();
        assert_eq!(
            (metrics.term, metrics.leader),
            (term_before, Some(leader)),
            "node {node}"
        );
        assert_eq!(metrics.failure, None);
    }
}

/// Four nodes that hold a batch, with an observer that the ledger names.
async fn four() -> (Cluster, NodeId, u64) {
    let cluster = Cluster::start(4).await;
    cluster.voters.add_observer(OBSERVER);
    cluster.propose("before").await.unwrap();
    cluster.agree().await;
    let leader = cluster.leader().await;
    let term = term(&cluster, leader);
    (cluster, leader, term)
}

#[tokio::test(start_paused = true)]
async fn an_observer_leads_no_node() {
    let (cluster, leader, term) = four().await;
    for round in 0..20 {
        for node in cluster.nodes.keys() {
            let vote = Vote::new_committed(term + 1 + round, OBSERVER);
            let all = [OBSERVER, 1, 2, 3, 4];
            // Even with everybody's votes: it is none that can be elected.
            let proof = proof(&cluster, term + 1 + round, OBSERVER, None, &all);
            let answer = heartbeat(&cluster, *node, vote, (None, None), Some(proof)).await;
            assert!(
                matches!(answer, Err(ServeError::Invalid { .. })),
                "{answer:?}"
            );
            let stands = ControlRequest::Vote {
                request: VoteRequest::new(Vote::new(term + 1 + round, OBSERVER), None),
                log_proof: None,
            };
            let request = wire::encode(&stands).into();
            let answer = cluster
                .node(*node)
                .serve(OBSERVER, RaftLane::Control, request)
                .await;
            assert!(
                matches!(answer, Err(ServeError::Invalid { .. })),
                "{answer:?}"
            );
        }
        sleep(Duration::from_millis(250)).await;
    }
    check_undisturbed(&cluster, leader, term).await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_was_not_elected_leads_no_node() {
    let (cluster, leader, term) = four().await;
    let liar = cluster.follower().await;
    let end = log(&cluster, leader).last().copied();
    let three = [1, 2, 3];
    let mut twice = proof(&cluster, term + 1, liar, end, &[liar, liar, liar]);
    let mut forged = proof(&cluster, term + 1, liar, end, &three);
    forged
        .votes
        .iter_mut()
        .filter(|vote| vote.voter != liar)
        .for_each(|vote| {
            vote.signature.0[0] ^= 1;
        });
    let mut other_log = proof(&cluster, term + 1, liar, end, &three);
    other_log.last_log_id = Some(log_id(term, leader, 1));
    twice.votes.push(twice.votes[0].clone());
    let proofs = [
        ("none", None),
        (
            "its own vote",
            Some(proof(&cluster, term + 1, liar, end, &[liar])),
        ),
        (
            "two votes of four",
            Some(proof(&cluster, term + 1, liar, end, &[liar, leader])),
        ),
        ("its own vote again and again", Some(twice)),
        ("votes that nobody signed", Some(forged)),
        ("votes for another log", Some(other_log)),
        (
            "votes of observers",
            Some(proof(&cluster, term + 1, liar, end, &[liar, 9, 10, 11])),
        ),
        (
            "votes of another term",
            Some(proof(&cluster, term + 2, liar, end, &three)),
        ),
        (
            "votes for another node",
            Some(proof(&cluster, term + 1, leader, end, &three)),
        ),
    ];
    for (what, proof) in proofs {
        for node in cluster.nodes.keys().filter(|node| **node != liar) {
            let vote = Vote::new_committed(term + 1, liar);
            let answer = heartbeat(&cluster, *node, vote, (end, end), proof.clone()).await;
            assert_eq!(answer, Ok(AppendAnswer::Unproven), "{what}");
            let request = AppendRequest {
                vote,
                prev_log_id: Some(log_id(term, leader, 1)),
                entries: vec![blank(log_id(term + 1, liar, 2))],
                leader_commit: end,
            };
            let answer = append(&cluster, *node, &request, proof.as_ref()).await;
            assert_eq!(answer, Ok(AppendAnswer::Unproven), "{what}");
        }
    }
    check_undisturbed(&cluster, leader, term).await;
}

/// A voter really won an election: a quorum signed for it. It still changes no member that the
/// ledger does not explain, and the others go on without it.
#[tokio::test(start_paused = true)]
async fn an_elected_liar_changes_no_members() {
    let (mut cluster, leader, term) = four().await;
    let liar = cluster.follower().await;
    let last = log(&cluster, leader).last().copied();
    let proof = proof(&cluster, term + 1, liar, last, &[1, 2, 3, 4]);
    let next = log_id(term + 1, liar, last.unwrap().index + 1);
    let unknown = [
        membership(next, &[liar], &[1, 2, 3, 4]),
        membership(next, &[1, 2, 3], &[4]),
        membership(next, &[1, 2, 3, 4, 5], &[]),
        membership(next, &[1, 2, 3, 4], &[77]),
    ];
    for entry in unknown {
        for node in (1..=4).filter(|node| *node != liar) {
            let request = AppendRequest {
                vote: Vote::new_committed(term + 1, liar),
                prev_log_id: last,
                entries: vec![entry.clone()],
                leader_commit: Some(next),
            };
            let answer = append(&cluster, node, &request, Some(&proof)).await;
            assert_eq!(answer, Err(ServeError::Busy), "not yet");
            let voters = cluster.node(node).metrics().voters;
            assert_eq!(voters, BTreeSet::from([1, 2, 3, 4]));
        }
    }
    // What the ledger explains is accepted, and what comes before it.
    cluster.voters.set([1, 2, 3].into());
    let node = (1..=4).find(|node| *node != liar).unwrap();
    let after = log_id(term + 1, liar, next.index + 1);
    let request = AppendRequest {
        vote: Vote::new_committed(term + 1, liar),
        prev_log_id: last,
        entries: vec![blank(next), membership(after, &[1, 2, 3, 5], &[])],
        leader_commit: None,
    };
    let answer = append(&cluster, node, &request, Some(&proof)).await;
    let partly = |answer: &Result<AppendAnswer, ServeError>| {
        matches!(answer, Ok(AppendAnswer::Response { response, .. })
            if *response == AppendResponse::PartialSuccess(Some(next)))
    };
    assert!(partly(&answer), "{answer:?}");
    cluster.voters.set([1, 2, 3, 4].into());
    cluster.kill(liar).await;
    cluster.propose("without the liar").await.unwrap();
    assert_eq!(cluster.agree().await, ["before", "without the liar"]);
}

/// An elected liar may be slow, and may add nonsense; what the others have acknowledged stays.
#[tokio::test(start_paused = true)]
async fn an_elected_liar_truncates_nothing_that_was_acknowledged() {
    let (cluster, leader, term) = four().await;
    let liar = cluster.follower().await;
    let node = (1..=4)
        .find(|node| *node != liar && *node != leader)
        .unwrap();
    // An entry that this node acknowledged, and of whose commit it does not know.
    let last = *log(&cluster, leader).last().unwrap();
    let fresh = log_id(term, leader, last.index + 1);
    let request = AppendRequest {
        vote: Vote::new_committed(term, leader),
        prev_log_id: Some(last),
        entries: vec![RaftLogEntry {
            log_id: fresh,
            payload: EntryPayload::Normal(ProposedBatch(Bytes::from_static(b"acknowledged"))),
        }],
        leader_commit: Some(last),
    };
    assert!(accepted(&append(&cluster, node, &request, None).await));
    let before = log(&cluster, node);
    assert_eq!(before.last(), Some(&fresh));
    let voters = [1, 2, 3, 4];
    let claims = [
        ("the same log", Some(fresh)),
        (
            "a longer log of the same leader",
            Some(log_id(term, leader, fresh.index + 7)),
        ),
    ];
    for (at, (what, claimed)) in claims.into_iter().enumerate() {
        let newer_term = term + 1 + at as u64;
        let proof = proof(&cluster, newer_term, liar, claimed, &voters);
        let vote = Vote::new_committed(newer_term, liar);
        let end = log_id(newer_term, liar, fresh.index);
        let requests = [
            (Some(last), vec![blank(end)]),
            (Some(last), vec![blank(log_id(term, liar, fresh.index))]),
            (
                Some(end),
                vec![blank(log_id(newer_term, liar, fresh.index + 1))],
            ),
        ];
        for (prev_log_id, entries) in requests {
            let request = AppendRequest {
                vote,
                prev_log_id,
                entries,
                leader_commit: Some(end),
            };
            let answer = append(&cluster, node, &request, Some(&proof)).await;
            assert!(
                matches!(answer, Err(ServeError::Invalid { .. })),
                "{what}: {answer:?}"
            );
        }
        // openraft removes what is in the way of the entry before.
        for prev in [end, log_id(0, 0, fresh.index), log_id(term, 0, fresh.index)] {
            let at = (Some(prev), None);
            let answer = heartbeat(&cluster, node, vote, at, Some(proof.clone())).await;
            assert!(
                matches!(answer, Err(ServeError::Invalid { .. })),
                "{what}: {answer:?}"
            );
        }
        assert_eq!(log(&cluster, node), before, "{what}");
    }
}

/// Every value of the previous log id and of the commit, by an elected liar: none ends a node, and
/// no commit goes back or beyond the log.
#[tokio::test(start_paused = true)]
async fn no_log_id_of_a_leader_turns_a_node_back_or_ends_it() {
    let (mut cluster, leader, term) = four().await;
    for round in 0..20 {
        cluster.propose(&format!("{round}")).await.unwrap();
    }
    let held = cluster.agree().await;
    let liar = cluster.follower().await;
    let node = (1..=4)
        .find(|node| *node != liar && *node != leader)
        .unwrap();
    let last = *log(&cluster, leader).last().unwrap();
    let newer_term = term + 1;
    let proof = proof(&cluster, newer_term, liar, Some(last), &[1, 2, 3, 4]);
    let mut ids = vec![None];
    for index in [
        0,
        1,
        5,
        last.index - 1,
        last.index,
        last.index + 1,
        last.index + 5,
        u64::MAX,
    ] {
        for (term, node) in [
            (0, 0),
            (1, 1),
            (term, leader),
            (newer_term, liar),
            (newer_term, 4),
            (u64::MAX, 0),
        ] {
            ids.push(Some(log_id(term, node, index)));
        }
    }
    for prev in &ids {
        for commit in &ids {
            let vote = Vote::new_committed(newer_term, liar);
            let at = (*prev, *commit);
            // Its answer does not matter.
            let _ = heartbeat(&cluster, node, vote, at, Some(proof.clone())).await;
            let first = prev.map_or(Some(0), |prev| prev.index.checked_add(1));
            let Some(first) = first else { continue };
            for leader_id in [(newer_term, liar), (term, leader)] {
                let request = AppendRequest {
                    vote,
                    prev_log_id: *prev,
                    entries: vec![blank(log_id(leader_id.0, leader_id.1, first))],
                    leader_commit: *commit,
                };
                let _ = append(&cluster, node, &request, Some(&proof)).await;
            }
            let metrics = cluster.node(node).metrics();
            assert_eq!(metrics.failure, None, "{prev:?} {commit:?}");
            assert!(metrics.applied_index >= Some(last.index));
        }
    }
    let batches = cluster.nodes[&node].machine.batches().unwrap();
    assert_eq!(batches.len(), held.len());
    // Another entry in place of a committed one is a lie that is noticed.
    let vote = Vote::new_committed(newer_term, liar);
    for index in [1, 5, last.index] {
        let at = (Some(log_id(0, 0, index)), None);
        let answer = heartbeat(&cluster, node, vote, at, Some(proof.clone())).await;
        assert!(
            matches!(answer, Err(ServeError::Invalid { .. })),
            "{answer:?}"
        );
    }
    cluster.kill(liar).await;
    // The node follows the liar's term, and the leader learns of it.
    sleep(Duration::from_secs(10)).await;
    cluster.propose("after").await.unwrap();
    assert_eq!(cluster.agree().await.len(), held.len() + 1);
}

/// Answers every append with a vote.
fn answers_with(vote: Vote) -> Arc<common::LiarAnswer> {
    Arc::new(move |_, lane, _| {
        let answer = AppendAnswer::Response {
            response: AppendResponse::HigherVote(vote),
            signature: None,
        };
        Some(match lane {
            RaftLane::Control => wire::encode(&ControlResponse::Heartbeat(answer)).into(),
            RaftLane::Append => wire::encode(&answer).into(),
            RaftLane::Snapshot => wire::encode(&SnapshotResponse::Done { vote }).into(),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn no_answer_of_a_learner_deposes_a_leader() {
    let (cluster, leader, term) = four().await;
    for vote in [
        Vote::new_committed(u64::MAX, OBSERVER),
        Vote::new_committed(term + 1, OBSERVER),
        Vote::new(term + 1, OBSERVER),
        Vote::new(term + 1, leader),
        Vote::new(u64::MAX, leader),
    ] {
        cluster.net.lie(OBSERVER, answers_with(vote));
        let added = cluster
            .node(leader)
            .add_learner(OBSERVER, Duration::from_secs(3));
        added.await.unwrap_err();
        check_undisturbed(&cluster, leader, term).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_of_a_voter_ends_a_leader_or_uses_terms_up() {
    let (mut cluster, leader, term_before) = four().await;
    let liar = cluster.follower().await;
    cluster.kill(liar).await;
    for vote in [
        Vote::new(u64::MAX - 1, leader),
        Vote::new_committed(term_before + 1, leader),
        Vote::new(term_before - 1, liar),
        Vote::new_committed(term_before, leader),
    ] {
        cluster.net.lie(liar, answers_with(vote));
        sleep(Duration::from_secs(5)).await;
        cluster.propose("while it lies").await.unwrap();
        let metrics = cluster.node(leader).metrics();
        assert_eq!(
            (metrics.term, metrics.leader),
            (term_before, Some(leader)),
            "{vote}"
        );
    }
    // One that may be true costs an election, and few terms; with ever higher terms, one election
    // for each leader.
    let mut raised = term_before;
    for vote in [Vote::new_committed(u64::MAX, liar), Vote::new(u64::MAX, 77)] {
        cluster.net.lie(liar, answers_with(vote));
        sleep(Duration::from_secs(10)).await;
        cluster.propose("while it lies").await.unwrap();
        let leader = cluster.leader().await;
        let before = std::mem::replace(&mut raised, term(&cluster, leader));
        assert!(raised - before < 1 << 26, "from {before} to {raised}");
    }
    assert!(raised > term_before);
    let claimed = Arc::new(AtomicU64::new(raised));
    let claims = claimed.clone();
    cluster.net.lie(
        liar,
        Arc::new(move |from, lane, request| {
            let term = claims.fetch_add(3, Ordering::Relaxed) + 1;
            let vote = Vote::new_committed(term, liar);
            if lane == RaftLane::Control
                && matches!(
                    wire::decode("request", request),
                    Ok(ControlRequest::Vote { .. })
                )
            {
                let log = Some(log_id(term, liar, 1 << 40));
                let refused = ControlResponse::Vote {
                    response: VoteResponse::new(vote, log, false),
                    signature: None,
                };
                return Some(wire::encode(&refused).into());
            }
            answers_with(vote)(from, lane, request)
        }),
    );
    sleep(Duration::from_secs(30)).await;
    let leader = cluster.leader().await;
    let term_under_lies = term(&cluster, leader);
    let asked = claimed.load(Ordering::Relaxed);
    for round in 0..20 {
        let batch = format!("under lies {round}");
        cluster.propose(&batch).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(term(&cluster, leader), term_under_lies, "it leads on");
    assert!(
        claimed.load(Ordering::Relaxed) > asked + 30,
        "the liar is asked all the time"
    );
}

/// A lying voter grants everything without a signature, and acknowledges what was not sent.
#[tokio::test(start_paused = true)]
async fn votes_without_signatures_and_false_acknowledgements_count_for_nothing() {
    let mut cluster = Cluster::start(4).await;
    cluster.propose("before").await.unwrap();
    let leader = cluster.leader().await;
    let others: Vec<NodeId> = (1..=4).filter(|node| *node != leader).collect();
    let (liar, down) = (others[0], others[1]);
    cluster.kill(liar).await;
    cluster.kill(down).await;
    cluster.net.lie(
        liar,
        Arc::new(move |_, lane, request| {
            let matched = AppendAnswer::Response {
                response: AppendResponse::PartialSuccess(Some(log_id(u64::MAX, 9, u64::MAX))),
                signature: Some(SignatureBytes([7; 64])),
            };
            match (lane, wire::decode("request", request)) {
                (RaftLane::Append, _) => Some(wire::encode(&matched).into()),
                (RaftLane::Control, Ok(ControlRequest::Vote { request, .. })) => {
                    let granted = ControlResponse::Vote {
                        response: VoteResponse::new(request.vote, None, true),
                        signature: Some(SignatureBytes([7; 64])),
                    };
                    Some(wire::encode(&granted).into())
                }
                _ => None,
            }
        }),
    );
    // With the liar's copies and votes there would be a quorum.
    let proposal = cluster
        .node(leader)
        .propose(Bytes::from_static(b"alone"))
        .await
        .unwrap();
    let outcome = tokio::time::timeout(Duration::from_secs(20), proposal.outcome()).await;
    assert!(!matches!(outcome, Ok(Ok(_))), "{outcome:?}");
    cluster.crash(leader).await;
    cluster.restart(leader).await;
    sleep(TIMEOUT).await;
    for node in cluster.nodes.keys() {
        let metrics = cluster.node(*node).metrics();
        assert!(!cluster.node(*node).watch_leadership().borrow().ready);
        assert_eq!(metrics.failure, None);
    }
    cluster.restart(down).await;
    cluster.propose("three are enough").await.unwrap();
}

fn manifest(last: LogId, bytes: u64) -> Manifest {
    Manifest {
        meta: SnapshotMeta {
            last_log_id: Some(last),
            last_membership: StoredMembership::default(),
            snapshot_id: "1-0".to_owned(),
        },
        files: vec![FileInfo {
            name: "file".to_owned(),
            bytes,
            hash: [0; 32],
        }],
    }
}

async fn offer(
    cluster: &Cluster,
    to: NodeId,
    vote: Vote,
    manifest: Manifest,
    proof: Option<ElectionProof>,
) -> Result<SnapshotResponse, ServeError> {
    let request = SnapshotRequest::Offer {
        vote,
        manifest,
        proof,
    };
    let from = vote.leader_id.node_id;
    let bytes = wire::frame(&request, &[]);
    let answer = cluster
        .node(to)
        .serve(from, RaftLane::Snapshot, bytes)
        .await?;
    Ok(wire::decode("answer", &answer).unwrap())
}

fn incoming(cluster: &Cluster, node: NodeId) -> usize {
    let entries = std::fs::read_dir(cluster.images(node)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("incoming-")).count()
}

#[tokio::test(start_paused = true)]
async fn an_image_costs_disk_only_for_a_proven_leader_and_is_removed_with_it() {
    let (mut cluster, leader, term) = four().await;
    let liar = cluster.follower().await;
    let node = (1..=4)
        .find(|node| *node != liar && *node != leader)
        .unwrap();
    let last = *log(&cluster, leader).last().unwrap();
    let image = manifest(log_id(term + 1, liar, last.index + 50), 1 << 39);
    let vote = Vote::new_committed(term + 1, OBSERVER);
    let answer = offer(&cluster, node, vote, image.clone(), None).await;
    assert!(
        matches!(answer, Err(ServeError::Invalid { .. })),
        "{answer:?}"
    );
    let vote = Vote::new_committed(term + 1, liar);
    let answer = offer(&cluster, node, vote, image.clone(), None).await;
    assert_eq!(answer, Ok(SnapshotResponse::Unproven));
    assert_eq!(incoming(&cluster, node), 0);

    let proof = proof(&cluster, term + 1, liar, Some(last), &[1, 2, 3, 4]);
    let nonsense = manifest(log_id(u64::MAX, liar, u64::MAX), 10);
    let answer = offer(&cluster, node, vote, nonsense, Some(proof.clone())).await;
    assert!(
        matches!(answer, Err(ServeError::Invalid { .. })),
        "{answer:?}"
    );
    assert_eq!(incoming(&cluster, node), 0);
    let answer = offer(&cluster, node, vote, image, Some(proof)).await;
    assert_eq!(answer, Ok(SnapshotResponse::Next { file: 0, offset: 0 }));
    assert_eq!(incoming(&cluster, node), 1);
    // It stays through a restart, and goes with the next leader.
    cluster.kill(liar).await;
    cluster.kill(node).await;
    assert_eq!(incoming(&cluster, node), 1);
    cluster.restart(node).await;
    cluster.propose("by another leader").await.unwrap();
    cluster.agree().await;
    assert_eq!(incoming(&cluster, node), 0);
}

/// With five nodes a majority is three and a quorum four: three elect nobody and commit nothing.
#[tokio::test(start_paused = true)]
async fn a_majority_below_the_quorum_elects_no_leader_and_commits_nothing() {
    for count in [5, 7] {
        let mut cluster = Cluster::with_limits(count, Limits::default()).await;
        cluster.propose("before").await.unwrap();
        cluster.agree().await;
        let leader = cluster.leader().await;
        let quorum = wire::quorum(count as usize);
        assert!(quorum > count as usize / 2 + 1);
        let others: Vec<NodeId> = (1..=count).filter(|node| *node != leader).collect();
        let away = count as usize + 1 - quorum;
        for node in &others[..away] {
            cluster.kill(*node).await;
        }
        let node = cluster.node(leader);
        let proposal = node.propose(Bytes::from_static(b"too few")).await.unwrap();
        let outcome = tokio::time::timeout(Duration::from_secs(10), proposal.outcome()).await;
        assert!(!matches!(outcome, Ok(Ok(_))), "{count}: {outcome:?}");
        let read = cluster
            .node(leader)
            .read_index(Duration::from_secs(5))
            .await;
        assert!(read.is_err(), "{count}: {read:?}");
        let committed = |cluster: &Cluster, node| {
            let batches = cluster.nodes[&node].machine.batches().unwrap();
            batches.len()
        };
        assert!(
            cluster
                .nodes
                .keys()
                .all(|node| committed(&cluster, *node) == 1)
        );
        // No leader can be elected either.
        cluster.kill(leader).await;
        sleep(TIMEOUT).await;
        let leads = |node: &NodeId| cluster.node(*node).watch_leadership().borrow().ready;
        assert!(!cluster.nodes.keys().any(leads));
        for node in others[..away].iter().take(1).chain([&leader]) {
            cluster.restart(*node).await;
        }
        cluster.propose("enough").await.unwrap();
        assert!(cluster.agree().await.contains(&"enough".to_owned()));
    }
}

/// The ledger removed a voter that Raft's log still has: it can't stand for election any more, and
/// is not followed for longer than its removal takes.
#[tokio::test(start_paused = true)]
async fn a_removed_voter_neither_stands_nor_stays_leader() {
    let (cluster, leader, term_before) = four().await;
    let rest: BTreeSet<NodeId> = (1..=4).filter(|node| *node != leader).collect();
    let follower = *rest.first().unwrap();
    cluster.voters.set(rest);
    let stands = ControlRequest::Vote {
        request: VoteRequest::new(Vote::new(term_before + 9, leader), None),
        log_proof: None,
    };
    let request = wire::encode(&stands).into();
    let answer = cluster
        .node(follower)
        .serve(leader, RaftLane::Control, request)
        .await;
    assert!(
        matches!(answer, Err(ServeError::Invalid { .. })),
        "{answer:?}"
    );
    // It does not carry out its removal: nobody asks it to. The others follow for a while.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.node(follower).metrics().leader, Some(leader));
    sleep(Duration::from_secs(15)).await;
    let led_by = cluster.node(follower).metrics().leader;
    assert!(led_by.is_some() && led_by != Some(leader), "{led_by:?}");
    cluster.voters.exclude(led_by.unwrap());
    sleep(Duration::from_secs(10)).await;
    assert_ne!(
        cluster.node(follower).metrics().leader,
        led_by,
        "an excluded node leads nobody"
    );
}

/// A candidate claims the newest log that there can be, of a term that never had a leader.
#[tokio::test(start_paused = true)]
async fn a_candidate_with_a_log_of_an_unproven_term_gets_no_vote() {
    let (mut cluster, leader, term) = four().await;
    let liar = cluster.follower().await;
    let node = (1..=4)
        .find(|node| *node != liar && *node != leader)
        .unwrap();
    cluster.kill(leader).await;
    // The leader's lease must be over.
    cluster.net.cut(node);
    sleep(Duration::from_secs(4)).await;
    let newer_term = term + 1_000;
    let vote = async |claimed: Option<LogId>, log_proof: Option<ElectionProof>| {
        let request = ControlRequest::Vote {
            request: VoteRequest::new(Vote::new(newer_term, liar), claimed),
            log_proof,
        };
        let bytes = wire::encode(&request).into();
        let answer = cluster
            .node(node)
            .serve(liar, RaftLane::Control, bytes)
            .await
            .unwrap();
        match wire::decode("answer", &answer).unwrap() {
            ControlResponse::Vote {
                response,
                signature,
            } => (response.vote_granted, signature.is_some()),
            other => panic!("{other:?}"),
        }
    };
    let claimed = Some(log_id(term + 500, liar, 1 << 40));
    assert_eq!(vote(claimed, None).await, (false, false));
    let forged = proof(&cluster, term + 500, liar, None, &[liar]);
    assert_eq!(vote(claimed, Some(forged)).await, (false, false));
    let real = proof(&cluster, term + 500, liar, None, &[1, 2, 3]);
    assert_eq!(
        vote(claimed, Some(real)).await,
        (true, true),
        "that term had a leader"
    );
}

/// A liar was elected with the last entry of a leadership that had its votes, and of which nobody
/// holds an entry. It gains the office: it appends nothing and removes nothing.
#[tokio::test(start_paused = true)]
async fn an_elected_liar_with_a_claimed_last_entry_appends_and_removes_nothing() {
    let (cluster, leader, term) = four().await;
    let liar = cluster.follower().await;
    let mut others = (1..=4).filter(|node| *node != liar && *node != leader);
    let (node, other) = (others.next().unwrap(), others.next().unwrap());
    let before = log(&cluster, node);
    let end = *before.last().unwrap();
    let voters = [1, 2, 3, 4];
    // `other` was elected with the log that all have, and sent nothing.
    let claimed = log_id(term + 1, other, end.index + 3);
    let newer_term = term + 2;
    let proof = proof(&cluster, newer_term, liar, Some(claimed), &voters);
    let vote = Vote::new_committed(newer_term, liar);
    let up_to_claimed: Vec<_> = (end.index + 1..=claimed.index)
        .map(|index| blank(log_id(term + 1, other, index)))
        .collect();
    let entry = |index| blank(log_id(newer_term, liar, index));
    let mut whole = up_to_claimed.clone();
    whole.push(entry(claimed.index + 1));
    let requests = [
        ("on the common log", Some(end), vec![entry(end.index + 1)]),
        (
            "over an entry of it",
            before.iter().rev().nth(1).copied(),
            vec![entry(end.index)],
        ),
        (
            "above the claim",
            Some(claimed),
            vec![entry(claimed.index + 1)],
        ),
        (
            "what the claimed leader never signed",
            Some(end),
            up_to_claimed,
        ),
        ("both", Some(end), whole),
    ];
    for (what, prev_log_id, entries) in requests {
        let request = AppendRequest {
            vote,
            prev_log_id,
            entries,
            leader_commit: Some(claimed),
        };
        let answer = append(&cluster, node, &request, Some(&proof)).await;
        assert!(!accepted(&answer), "{what}: {answer:?}");
        assert_eq!(log(&cluster, node), before, "{what}");
    }
    // The others elect a leader and have lost nothing.
    cluster.net.cut(liar);
    cluster.propose("after").await.unwrap();
    assert!(log(&cluster, node).starts_with(&before));
}
