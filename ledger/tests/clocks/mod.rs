//! A clock that is years off, on any one node: it costs at most one election.

use std::time::Duration;

use lamplighter_ledger::{ClockStanding, NodeAlarm, RaisedAlarm, Status, Verdict};
use lamplighter_types::codec;

use crate::cluster::{Cluster, now_ms};

const WITHIN: Duration = Duration::from_secs(20);
const THREE_YEARS_MS: i64 = 3 * 365 * 86_400_000;

async fn register(cluster: &Cluster, node: u64, name: &str) -> u64 {
    let signed = cluster.organization(name);
    let ticket = cluster.handle(node).submit(signed).await.unwrap();
    match tokio::time::timeout(WITHIN, ticket.verdict()).await {
        Ok(Verdict::Committed(commitment)) => commitment.height,
        other => panic!("{name}: {other:?}"),
    }
}

async fn wait_for(cluster: &Cluster, node: u64, what: &str, is: impl Fn(&Status) -> bool) {
    let wait = async {
        while !is(&cluster.handle(node).status()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(WITHIN, wait).await;
    let status = || cluster.handle(node).status();
    waited.unwrap_or_else(|_| panic!("node {node}: {what}: {:?}", status()));
}

/// All compared their clocks, and found nothing.
async fn all_agree(cluster: &Cluster) {
    for node in cluster.running.keys() {
        wait_for(cluster, *node, "agrees", |status| {
            status.clock == ClockStanding::Agrees
        })
        .await;
    }
}

fn term(cluster: &Cluster, node: u64) -> u64 {
    cluster.handle(node).status().consensus.term
}

fn differs(status: &Status) -> bool {
    let alarm = |raised: &RaisedAlarm| {
        matches!(raised.alarm, NodeAlarm::ClockDiffers { .. }) && raised.alarm.is_unready()
    };
    status.alarms.iter().any(alarm)
}

/// No block has a time that is not of this hour.
async fn assert_times(cluster: &Cluster, node: u64, height: u64) {
    let handle = cluster.handle(node);
    handle.wait_certified(height, WITHIN).await.unwrap();
    for height in 1..=height {
        let time_ms = handle.header(height).unwrap().unwrap().timestamp_ms;
        assert!(
            time_ms.abs_diff(now_ms()) < 3_600_000,
            "{height}: {time_ms}"
        );
    }
}

async fn a_leader_after_a_clock_jump(offset_ms: i64) {
    let cluster = Cluster::start_calm(4).await;
    let leader = cluster.leader().await;
    register(&cluster, leader, "before").await;
    all_agree(&cluster).await;
    let (other, before) = (1 + leader % 4, term(&cluster, leader));
    cluster.set_clock(leader, offset_ms);
    wait_for(&cluster, other, "another leads", |status| {
        status.consensus.leader.is_some_and(|l| l != leader)
    })
    .await;
    let height = register(&cluster, other, "after").await;
    assert_times(&cluster, other, height).await;
    // One election; a second one only if two stood at once.
    assert!(term(&cluster, other) <= before + 2, "{before}");
    wait_for(&cluster, leader, "an alarm", differs).await;
    let after = term(&cluster, other);
    let height = register(&cluster, other, "later").await;
    assert_times(&cluster, other, height).await;
    assert_eq!(term(&cluster, other), after, "and no other");

    cluster.set_clock(leader, 0);
    wait_for(&cluster, leader, "the alarm ends", |s| !differs(s)).await;
    let height = register(&cluster, leader, "mended").await;
    assert_times(&cluster, leader, height).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_three_years_ahead_costs_one_election() {
    a_leader_after_a_clock_jump(THREE_YEARS_MS).await;
}

#[tokio::test]
async fn a_leader_three_years_behind_costs_one_election() {
    a_leader_after_a_clock_jump(-THREE_YEARS_MS).await;
}

#[tokio::test]
async fn a_follower_years_off_costs_no_election() {
    for offset_ms in [THREE_YEARS_MS, -THREE_YEARS_MS, i64::MAX, i64::MIN] {
        let cluster = Cluster::start_calm(4).await;
        let leader = cluster.leader().await;
        register(&cluster, leader, "before").await;
        all_agree(&cluster).await;
        let (off, before) = (1 + leader % 4, term(&cluster, leader));
        cluster.set_clock(off, offset_ms);
        for n in 0..5 {
            register(&cluster, leader, &format!("meanwhile-{n}")).await;
        }
        wait_for(&cluster, off, "an alarm", differs).await;
        let height = register(&cluster, leader, "after").await;
        assert_times(&cluster, leader, height).await;
        let status = cluster.handle(leader).status();
        let now = (status.consensus.leader, status.consensus.term);
        assert_eq!(now, (Some(leader), before));
        // Its log has what it did not acknowledge before, as soon as its clock is right.
        cluster.set_clock(off, 0);
        assert_times(&cluster, off, height).await;
        wait_for(&cluster, off, "the alarm ends", |s| !differs(s)).await;
        cluster.stop().await;
    }
}

/// A batch of which a quorum certified the block is committed, whatever the own clock says of it.
#[tokio::test]
async fn a_follower_years_behind_follows_what_is_certified() {
    let cluster = Cluster::start_calm(4).await;
    let leader = cluster.leader().await;
    register(&cluster, leader, "before").await;
    all_agree(&cluster).await;
    let off = 1 + leader % 4;
    cluster.set_clock(off, -THREE_YEARS_MS);
    let height = register(&cluster, leader, "meanwhile").await;
    let handle = cluster.handle(off);
    handle.wait_height(height, WITHIN).await.unwrap();
    cluster.stop().await;
}

/// A batch without transactions of any time, as a lying leader may make it.
fn batch(parent: [u8; 32], timestamp_ms: u64) -> Vec<u8> {
    codec::encode(&(parent, timestamp_ms, Vec::<u8>::new()))
}

/// Its clock answers well, so only what it proposes shows the lie.
#[tokio::test]
async fn a_leader_that_lies_about_the_time_is_replaced() {
    for time_ms in [now_ms() + THREE_YEARS_MS as u64, u64::MAX] {
        let cluster = Cluster::start_calm(4).await;
        let leader = cluster.leader().await;
        let height = register(&cluster, leader, "before").await;
        all_agree(&cluster).await;
        let parent = cluster
            .handle(leader)
            .header(height)
            .unwrap()
            .unwrap()
            .batch;
        let consensus = &cluster.running[&leader].consensus;
        let _lie = consensus.propose(batch(parent.0, time_ms).into()).await;
        let other = 1 + leader % 4;
        wait_for(&cluster, other, "another leads", |status| {
            status.consensus.leader.is_some_and(|l| l != leader)
        })
        .await;
        let accused = cluster.handle(other).status();
        let is_early = |raised: &RaisedAlarm| match raised.alarm {
            NodeAlarm::EarlyBatch { leader: early, .. } => early == leader,
            _ => false,
        };
        assert!(accused.alarms.iter().any(is_early), "{:?}", accused.alarms);
        let height = register(&cluster, other, "after").await;
        assert_times(&cluster, other, height).await;
        cluster.stop().await;
    }
}

/// On a chain of one nobody refuses the batch: it is committed, makes no block, and the chain goes
/// on, also after a restart that applies it again.
#[tokio::test]
async fn a_committed_batch_beyond_all_time_is_void() {
    let mut cluster = Cluster::start(1).await;
    let height = register(&cluster, 1, "before").await;
    let head = cluster.handle(1).header(height).unwrap().unwrap();
    for time_ms in [u64::MAX, u64::MAX - 1, head.timestamp_ms * 10] {
        let parent = cluster.handle(1).header(cluster.handle(1).head().height);
        let parent = parent.unwrap().unwrap().batch;
        let consensus = cluster.running[&1].consensus.clone();
        let proposal = consensus.propose(batch(parent.0, time_ms).into()).await;
        let applied = proposal.unwrap().outcome().await.unwrap();
        assert!(applied.response.is_empty(), "no block");
    }
    wait_for(&cluster, 1, "an alarm", |status| {
        let void = |r: &RaisedAlarm| {
            matches!(r.alarm, NodeAlarm::VoidBatch { .. }) && r.alarm.is_unready()
        };
        status.alarms.iter().any(void) || status.certified_height > height
    })
    .await;
    cluster.crash(1).await;
    cluster.start_node(1).await;
    let height = register(&cluster, 1, "after").await;
    assert_times(&cluster, 1, height).await;
    wait_for(&cluster, 1, "the alarm ends", |s| s.alarms.is_empty()).await;
    cluster.stop().await;
}
