//! The ledger of one and of four nodes, from a signed transaction to a proof.

mod audit;
mod clocks;
mod cluster;
mod equivocation;
mod holding;
mod snapshot;
mod waiting;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::{Cluster, id, node_secret};
use lamplighter_ledger::{Commitment, Cursor, ProveError, Subject, SubmitError, Ticket, Verdict};
use lamplighter_types::proof::{ProvenRecord, VALIDATOR_SET_KEY};
use lamplighter_types::{Fact, GovernanceChange, Outcome};

const WITHIN: Duration = Duration::from_secs(20);

async fn committed(ticket: Ticket) -> Commitment {
    match tokio::time::timeout(WITHIN, ticket.verdict())
        .await
        .unwrap()
    {
        Verdict::Committed(commitment) => commitment,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_transaction_is_committed_certified_and_proven_on_one_node() {
    let cluster = Cluster::start(1).await;
    let ledger = cluster.handle(1);
    let signed = cluster.organization("harbour");
    let first = committed(ledger.submit(signed.clone()).await.unwrap()).await;
    assert_eq!(first.receipt.outcome, Outcome::Succeeded);
    let second = committed(ledger.submit(signed.clone()).await.unwrap()).await;
    assert_eq!(
        (second.height, second.index),
        (first.height, first.index),
        "the same verdict"
    );

    let hash = signed.hash(&ledger.chain_id());
    for subject in [Subject::Transaction(hash), Subject::Receipt(hash)] {
        let bundle = ledger.prove(subject, 0, WITHIN).await.unwrap();
        assert_eq!(
            bundle.verify(&cluster.genesis).unwrap().height,
            first.height
        );
    }
    let absent = ledger
        .prove(Subject::State(b"nothing".to_vec()), 0, WITHIN)
        .await
        .unwrap();
    let proven = absent.verify(&cluster.genesis).unwrap().record;
    assert!(matches!(proven, ProvenRecord::State { value: None, .. }));
    cluster.stop().await;
}

#[tokio::test]
async fn refused_transactions_are_in_no_block() {
    let cluster = Cluster::start(1).await;
    let ledger = cluster.handle(1);
    let mut signed = cluster.organization("harbour");
    signed.payload.0[20] ^= 1;
    assert!(matches!(
        ledger.submit(signed).await,
        Err(SubmitError::Invalid(_))
    ));
    let mut foreign = cluster.organization("harbour");
    foreign.key = node_secret(9).public();
    foreign.signature = node_secret(9).sign(&foreign.signing_bytes(&ledger.chain_id()));
    assert!(matches!(
        ledger.submit(foreign).await,
        Err(SubmitError::Refused(_))
    ));
    cluster.stop().await;
}

#[tokio::test]
async fn four_nodes_make_the_same_blocks_through_crashes() {
    let mut cluster = Cluster::start(4).await;
    let follower = 1 + cluster.leader().await % 4;
    for n in 0..20 {
        let signed = cluster.organization(&format!("before-{n}"));
        committed(cluster.handle(follower).submit(signed).await.unwrap()).await;
    }
    let leader = cluster.leader().await;
    cluster.crash(leader).await;
    let survivor = *cluster.running.keys().next().unwrap();
    for n in 0..20 {
        let signed = cluster.organization(&format!("after-{n}"));
        committed(cluster.handle(survivor).submit(signed).await.unwrap()).await;
    }
    cluster.start_node(leader).await;
    let signed = cluster.organization("last");
    let last = committed(cluster.handle(leader).submit(signed).await.unwrap()).await;
    for node in 1..=4 {
        let ledger = cluster.handle(node);
        ledger.wait_certified(last.height, WITHIN).await.unwrap();
    }
    for height in 0..=last.height {
        let headers = (1..=4).map(|node| cluster.handle(node).header(height).unwrap().unwrap());
        let hashes: std::collections::BTreeSet<_> = headers.map(|h| h.hash()).collect();
        assert_eq!(hashes.len(), 1, "one header at height {height}");
    }
    cluster.stop().await;
}

/// A node that catches up learns from the broadcasts how far the others are, and a lost attestation
/// is sent again: the same while there is a new block all the time.
#[tokio::test]
async fn certificates_are_broadcast_while_there_is_a_new_block_all_the_time() {
    let cluster = Cluster::start(4).await;
    let mut head = cluster.handle(1).watch_head();
    let started = tokio::time::Instant::now();
    while (1..=4).any(|node| cluster.certified_broadcasts(node) < 2) {
        assert!(started.elapsed() < WITHIN, "no broadcast");
        // The heartbeat makes a block each 200 ms.
        head.changed().await.unwrap();
    }
    cluster.stop().await;
}

/// The leader lost a transaction, and more come in all the time.
#[tokio::test]
async fn a_transaction_that_the_leader_lost_is_forwarded_again_under_load() {
    let cluster = Cluster::start_calm(4).await;
    let follower = cluster.handle(1 + cluster.leader().await % 4);
    cluster.lose_next();
    let lost = follower.submit(cluster.organization("lost")).await.unwrap();
    let commitment = committed(lost);
    tokio::pin!(commitment);
    for n in 0.. {
        let next = follower.submit(cluster.organization(&format!("next-{n}")));
        tokio::select! {
            biased;
            first = &mut commitment => {
                assert_eq!(first.receipt.outcome, Outcome::Succeeded);
                break;
            }
            ticket = next => {
                ticket.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert!(cluster.has_lost());
    cluster.stop().await;
}

/// Only the former validators can certify a change, the removed ones included: they stay reachable,
/// and keep their vote, until that is done.
#[tokio::test]
async fn a_removed_validator_certifies_its_removal() {
    let cluster = Cluster::start(2).await;
    let one = cluster.handle(1);
    let change = GovernanceChange::RemoveValidator { node: 2 };
    for signed in cluster.govern("remove-2", change) {
        let commitment = committed(one.submit(signed).await.unwrap()).await;
        assert_eq!(commitment.receipt.outcome, Outcome::Succeeded);
    }
    let alone = committed(one.submit(cluster.organization("alone")).await.unwrap()).await;
    one.wait_certified(alone.height, WITHIN).await.unwrap();
    let subject = Subject::State(VALIDATOR_SET_KEY.to_vec());
    let bundle = one.prove(subject, 0, WITHIN).await.unwrap();
    bundle.verify(&cluster.genesis).unwrap();
    let mut nodes = one.watch_membership();
    let removed = nodes.wait_for(|nodes| nodes.key_of(2).is_none());
    tokio::time::timeout(WITHIN, removed)
        .await
        .unwrap()
        .unwrap();
    cluster.stop().await;
}

/// Raft's voters may be only such as the certified record explains: a change that was executed and
/// is not certified yet is none of them.
#[tokio::test]
async fn the_electorate_explains_certified_sets_alone() {
    let cluster = Cluster::start(4).await;
    let (all, rest) = (BTreeSet::from([1, 2, 3, 4]), BTreeSet::from([1, 2, 3]));
    let electorate = cluster.running[&1].electorate.clone();
    assert_eq!(electorate.explains(&all), Some(0));
    assert_eq!(electorate.explains(&[1].into()), None);
    let signature = cluster.running[&2].electorate.sign(b"a statement");
    assert!(electorate.verify(2, b"a statement", &signature));
    assert!(!electorate.verify(3, b"a statement", &signature));
    assert!(!electorate.verify(77, b"a statement", &signature));
    assert!(electorate.names(4) && !electorate.names(77));

    cluster.silence(&[3, 4]);
    let one = cluster.handle(1);
    let change = GovernanceChange::RemoveValidator { node: 4 };
    for signed in cluster.govern("remove-4", change) {
        let commitment = committed(one.submit(signed).await.unwrap()).await;
        assert_eq!(commitment.receipt.outcome, Outcome::Succeeded);
    }
    assert_eq!(electorate.explains(&rest), None, "it is not certified");
    assert_eq!(electorate.electors(), std::slice::from_ref(&all));
    let voters = cluster.running[&1].consensus.metrics().voters;
    assert_eq!(voters, all);

    cluster.silence(&[]);
    let mut nodes = one.watch_membership();
    let changed = nodes.wait_for(|nodes| nodes.voters.by_node(4).is_none());
    let changed = tokio::time::timeout(WITHIN, changed).await;
    drop(changed.unwrap().unwrap());
    assert_eq!(electorate.electors(), std::slice::from_ref(&rest));
    assert!(electorate.explains(&rest) > electorate.explains(&all));
    assert!(
        electorate.explains(&all).is_some(),
        "a log that is replayed has it"
    );
    assert!(!electorate.may_vote(4) && electorate.names(4));
    cluster.stop().await;
}

/// A signature vouches for every change of the validators below it: verifiers skip them for that.
#[tokio::test]
async fn nothing_is_signed_above_a_change_that_is_not_certified() {
    let cluster = Cluster::start(4).await;
    let one = cluster.handle(1);
    let first = committed(one.submit(cluster.organization("first")).await.unwrap()).await;
    one.wait_certified(first.height, WITHIN).await.unwrap();
    cluster.silence(&[1, 2, 3, 4]);
    let change = GovernanceChange::RemoveValidator { node: 4 };
    let mut changed = 0;
    for signed in cluster.govern("remove-4", change) {
        changed = committed(one.submit(signed).await.unwrap()).await.height;
    }
    let mut last = changed;
    for n in 0..5 {
        let organization = cluster.organization(&format!("o{n}"));
        last = committed(one.submit(organization).await.unwrap())
            .await
            .height;
    }
    assert!(last > changed);
    for node in 1..=4 {
        let handle = cluster.handle(node);
        handle.wait_height(last, WITHIN).await.unwrap();
        let signed = async {
            while handle.last_signed().unwrap() < Some(changed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(WITHIN, signed).await.unwrap();
        assert_eq!(handle.last_signed().unwrap(), Some(changed), "node {node}");
    }
    cluster.silence(&[]);
    one.wait_certified(last, WITHIN).await.unwrap();
    let trusted = one.set_path(0).await.unwrap();
    let trusted = trusted.verify(&(&cluster.genesis).into()).unwrap();
    assert_eq!((trusted.height, trusted.set.validators.len()), (changed, 3));
    let subject = Subject::State(VALIDATOR_SET_KEY.to_vec());
    let bundle = one.prove(subject.clone(), changed, WITHIN).await.unwrap();
    assert!(bundle.set_changes.is_empty());
    assert_eq!(bundle.verify(&trusted).unwrap().trusted, trusted);
    // A node that has not come so far says it, and does not make a proof that is refused.
    let ahead = one.head().height + 1_000;
    let behind = one.prove(subject, ahead, WITHIN).await;
    assert!(
        matches!(behind, Err(ProveError::Behind { .. })),
        "{behind:?}"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_subscriber_reads_each_notification_once() {
    let cluster = Cluster::start(1).await;
    let ledger = cluster.handle(1).clone();
    for n in 0..5 {
        committed(
            ledger
                .submit(cluster.organization(&format!("o{n}")))
                .await
                .unwrap(),
        )
        .await;
    }
    let mut registered = Vec::new();
    let mut after = Some(Cursor {
        height: 0,
        index: u32::MAX,
    });
    while registered.len() < 5 {
        // A new subscription for each block: the cursor alone carries the place.
        let mut feed = ledger.subscribe(after);
        let step = tokio::time::timeout(WITHIN, feed.next())
            .await
            .unwrap()
            .unwrap();
        for event in step.unwrap().events {
            after = Some(event.cursor);
            if let Fact::OrganizationRegistered { organization } = event.notification.fact {
                registered.push(organization);
            }
        }
    }
    let expected: Vec<_> = (0..5).map(|n| id(&format!("o{n}"))).collect();
    assert_eq!(registered, expected);
    cluster.stop().await;
}
