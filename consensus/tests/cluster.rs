//! The guarantees of consensus, each tested on a whole cluster.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, TIMEOUT};
use lamplighter_consensus::{
    ConsensusError, Limits, MembershipError, ProposeError, RaftLane, ReadError, ServeError, Timers,
};
use lamplighter_store::{Cf, Durability, Fault, KeyRange, Kv, MemoryKv, WriteBatch};
use tokio::time::{Instant, sleep, timeout};

const SHORT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_data_directory_belongs_to_one_node() {
    let mut cluster = Cluster::start(1).await;
    cluster.propose("batch").await.unwrap();
    cluster.kill(1).await;
    let kv = cluster.down[&1].clone();
    let error = cluster.try_boot(2, &kv).await.err().unwrap();
    assert!(
        matches!(
            error,
            ConsensusError::WrongNode {
                expected: 2,
                found: 1
            }
        ),
        "{error}"
    );
    cluster.restart(1).await;
    assert_eq!(cluster.agree().await, ["batch"]);
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_accepts_batches_and_others_name_it() {
    let cluster = Cluster::start(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    cluster.agree().await;
    let proposal = cluster
        .node(follower)
        .propose(Bytes::from_static(b"x"))
        .await
        .unwrap();
    let expected = ProposeError::NotLeader {
        leader: Some(leader),
    };
    assert_eq!(proposal.outcome().await, Err(expected));
    assert!(cluster.node(leader).is_leader() && !cluster.node(follower).is_leader());
    let bytes_max = Limits::default().batch_bytes_max;
    let large = cluster
        .node(leader)
        .propose(vec![0; bytes_max + 1].into())
        .await;
    assert!(matches!(large, Err(ProposeError::TooLarge { .. })));
    let largest = cluster
        .node(leader)
        .propose(vec![0; bytes_max].into())
        .await
        .unwrap();
    largest.outcome().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn proposals_wait_for_a_place() {
    let limits = Limits {
        proposals_max: 2,
        ..Limits::default()
    };
    let cluster = Cluster::with_limits(3, limits).await;
    let leader = cluster.leader().await;
    for id in cluster.nodes.keys().filter(|id| **id != leader) {
        cluster.net.cut(*id);
    }
    let node = cluster.node(leader);
    let first = node.propose(Bytes::from_static(b"1")).await.unwrap();
    let second = node.propose(Bytes::from_static(b"2")).await.unwrap();
    let third = timeout(
        Duration::from_millis(500),
        node.propose(Bytes::from_static(b"3")),
    )
    .await;
    assert!(third.is_err(), "no place is free");
    cluster.net.heal();
    for proposal in [first, second] {
        // Committed, or refused by a new leader: each gets its answer.
        let _ = timeout(TIMEOUT, proposal.outcome()).await.unwrap();
    }
    cluster.propose("4").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_follower_reads_what_was_committed_before() {
    let cluster = Cluster::start(3).await;
    let follower = cluster.follower().await;
    for round in 0..5 {
        let applied = cluster.propose(&format!("{round}")).await.unwrap();
        let index = cluster.node(follower).read_index(SHORT).await.unwrap();
        assert!(index >= applied.log_index);
        assert_eq!(
            cluster.nodes[&follower].machine.batches().unwrap().len(),
            round + 1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_confirms_no_read_and_is_not_ready() {
    let cluster = Cluster::start(3).await;
    cluster.propose("before").await.unwrap();
    let old = cluster.leader().await;
    cluster.net.cut(old);
    let read = cluster.node(old).read_index(SHORT).await;
    assert_eq!(read, Err(ReadError::Deadline(SHORT)));
    assert!(!cluster.node(old).watch_leadership().borrow().ready);
    let new = cluster.leader().await;
    assert_ne!(old, new);
    cluster.node(new).read_index(SHORT).await.unwrap();
    let terms = [old, new].map(|id| cluster.node(id).watch_leadership().borrow().term);
    assert!(terms[0] < terms[1]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_within_the_election_timeout() {
    let mut cluster = Cluster::start(4).await;
    let Timers {
        heartbeat,
        election_min,
        election_max,
        ..
    } = Timers::default();
    for round in 0..5 {
        cluster.propose(&format!("{round}")).await.unwrap();
        cluster.agree().await;
        let dead = cluster.leader().await;
        let begun = Instant::now();
        cluster.kill(dead).await;
        cluster.leader().await;
        let waited = begun.elapsed();
        assert!(waited >= election_min - heartbeat, "{waited:?}");
        assert!(waited <= election_max + heartbeat * 2, "{waited:?}");
        cluster.restart(dead).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_ready_when_it_has_applied_all_of_earlier_terms() {
    let mut cluster = Cluster::start(3).await;
    let mut acknowledged = Vec::new();
    for round in 0..6 {
        for batch in 0..10 {
            let batch = format!("{round}.{batch}");
            cluster.propose(&batch).await.unwrap();
            acknowledged.push(batch);
        }
        let leader = cluster.leader().await;
        cluster.crash(leader).await;
        // As soon as a node is ready, its state has everything that was acknowledged.
        let new = cluster.leader().await;
        let held = cluster.nodes[&new].machine.batches().unwrap();
        let held: Vec<_> = held
            .iter()
            .map(|(_, batch)| String::from_utf8_lossy(batch).into_owned())
            .collect();
        assert_eq!(held, acknowledged);
        cluster.restart(leader).await;
    }
}

/// Power is lost everywhere at a random moment, again and again, with batches under way.
#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_power_loss_everywhere() {
    let mut cluster = Cluster::start(3).await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..15u64 {
        let leader = cluster.leader().await;
        let mut proposals = Vec::new();
        for at in 0..8 {
            let batch = format!("{round}.{at}");
            let bytes = Bytes::from(batch.clone());
            proposals.push((batch, cluster.node(leader).propose(bytes).await.unwrap()));
        }
        // Between "just proposed" and "all done".
        sleep(Duration::from_millis(round)).await;
        for (batch, proposal) in proposals {
            let now = timeout(Duration::ZERO, proposal.outcome()).await;
            if matches!(now, Ok(Ok(_))) {
                acknowledged.insert(batch);
            }
        }
        for id in 1..=3 {
            cluster.crash(id).await;
        }
        for id in 1..=3 {
            cluster.restart(id).await;
        }
        let held: BTreeSet<String> = cluster.agree().await.into_iter().collect();
        let lost: Vec<_> = acknowledged.difference(&held).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
}

#[tokio::test(start_paused = true)]
async fn a_leader_with_a_broken_disk_acknowledges_nothing_and_is_replaced() {
    for persisted in [false, true] {
        let mut cluster = Cluster::start(3).await;
        cluster.propose("before").await.unwrap();
        cluster.agree().await;
        let old = cluster.leader().await;
        // The append is written, the sync after it fails, and so does all that follows.
        let fault = Fault {
            after_writes: 1,
            persisted,
            lasting: true,
        };
        cluster.nodes[&old].kv.plan(fault);
        let proposal = cluster
            .node(old)
            .propose(Bytes::from_static(b"doubtful"))
            .await
            .unwrap();
        let outcome = timeout(TIMEOUT, proposal.outcome()).await;
        assert!(
            !matches!(outcome, Ok(Ok(_))),
            "persisted {persisted}: {outcome:?}"
        );
        let stopped = timeout(TIMEOUT, cluster.node(old).stopped()).await;
        assert!(
            matches!(stopped, Ok(ConsensusError::Raft(_))),
            "{stopped:?}"
        );
        cluster.crash(old).await;
        cluster.propose("after").await.unwrap();
        cluster.restart(old).await;
        let held = cluster.agree().await;
        assert_eq!(
            (
                held.first().unwrap().as_str(),
                held.last().unwrap().as_str()
            ),
            ("before", "after")
        );
    }
}

/// Each write of a follower fails once, lost or persisted; the node stops, starts again, and holds
/// what the others hold.
#[tokio::test(start_paused = true)]
async fn any_failing_write_of_a_follower_stops_it_and_harms_nothing() {
    for after_writes in 0..8 {
        for persisted in [false, true] {
            let mut cluster = Cluster::start(3).await;
            cluster.agree().await;
            let follower = cluster.follower().await;
            let fault = Fault {
                after_writes,
                persisted,
                lasting: false,
            };
            cluster.nodes[&follower].kv.plan(fault);
            for round in 0..6 {
                cluster.propose(&format!("{round}")).await.unwrap();
            }
            let stopped = cluster.node(follower).stopped();
            let _ = timeout(SHORT, stopped).await;
            cluster.crash(follower).await;
            cluster.restart(follower).await;
            let held = cluster.agree().await;
            assert_eq!(held, ["0", "1", "2", "3", "4", "5"], "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_without_a_live_quorum_is_refused() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let voters: BTreeSet<u64> = [leader, 8, 9].into();
    let error = node.change_membership(voters, SHORT).await.unwrap_err();
    assert!(matches!(error, MembershipError::NotLearner(8)), "{error}");
    assert_eq!(
        node.change_membership(BTreeSet::new(), SHORT).await,
        Err(MembershipError::Size(0))
    );
    cluster.voters.add_observer(9);
    let missing = node.add_learner(9, SHORT).await;
    assert_eq!(
        missing,
        Err(MembershipError::Deadline(SHORT)),
        "no such node runs"
    );
    let voters: BTreeSet<u64> = [leader, 9].into();
    let error = node
        .change_membership(voters.clone(), SHORT)
        .await
        .unwrap_err();
    let live = BTreeSet::from([leader]);
    assert_eq!(error, MembershipError::NoLiveQuorum { voters, live });
    node.remove_learners([9].into(), SHORT).await.unwrap();
    assert!(cluster.node(leader).metrics().learners.is_empty());

    let follower = cluster.follower().await;
    let voters: BTreeSet<u64> = [follower].into();
    let error = cluster
        .node(follower)
        .change_membership(voters, SHORT)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        MembershipError::NotLeader {
            leader: Some(leader)
        }
    );
    // The leader may remove itself; the rest goes on.
    let rest: BTreeSet<u64> = (1..=3).filter(|id| *id != leader).collect();
    cluster.voters.set(rest.clone());
    cluster
        .node(leader)
        .change_membership(rest.clone(), TIMEOUT)
        .await
        .unwrap();
    cluster.kill(leader).await;
    cluster.propose("without it").await.unwrap();
    assert_eq!(cluster.node(follower).metrics().voters, rest);
}

#[tokio::test(start_paused = true)]
async fn requests_that_no_correct_node_sends_are_refused() {
    let cluster = Cluster::start(3).await;
    cluster.propose("before").await.unwrap();
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let garbage = [
        vec![],
        vec![0xff; 3],
        vec![0xff; 4096],
        vec![0; 100],
        vec![7; 17],
    ];
    for bytes in garbage {
        for lane in [RaftLane::Control, RaftLane::Append, RaftLane::Snapshot] {
            let answer = cluster
                .node(follower)
                .serve(leader, lane, bytes.clone().into())
                .await;
            // A vote request of zeros is well-formed, but not from this node.
            assert!(
                matches!(answer, Err(ServeError::Invalid { .. })),
                "{lane:?}: {answer:?}"
            );
        }
    }
    let huge = vec![0; lamplighter_consensus::FRAME_BYTES_MAX + 1];
    let answer = cluster
        .node(follower)
        .serve(leader, RaftLane::Append, huge.into())
        .await;
    assert!(matches!(answer, Err(ServeError::Invalid { .. })));
    cluster.propose("after").await.unwrap();
    assert_eq!(cluster.agree().await, ["before", "after"]);
}

#[tokio::test(start_paused = true)]
async fn metrics_and_the_end() {
    let mut cluster = Cluster::start(3).await;
    let applied = cluster.propose("batch").await.unwrap();
    cluster.agree().await;
    let leader = cluster.leader().await;
    let metrics = cluster.node(leader).metrics();
    assert_eq!((metrics.role, metrics.leader), ("Leader", Some(leader)));
    assert_eq!(metrics.applied_index, Some(applied.log_index));
    assert_eq!(metrics.voters, BTreeSet::from([1, 2, 3]));
    assert_eq!(metrics.matched_index.len(), 3);
    assert!(metrics.syncs > 0 && metrics.failure.is_none());
    let node = cluster.node(leader).clone();
    cluster.kill(leader).await;
    assert!(matches!(node.stopped().await, ConsensusError::Stopped));
    let refused = node.propose(Bytes::new()).await.err();
    assert_eq!(refused, Some(ProposeError::Stopped));
    assert_eq!(node.read_index(SHORT).await, Err(ReadError::Stopped));
    assert_eq!(node.metrics().role, "Shutdown");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_snapshot_is_not_sent_twice() {
    let limits = Limits {
        snapshot_chunk_bytes: 4096,
        ..Limits::default()
    };
    let (mut cluster, follower) = Cluster::with_one_behind(limits).await;
    cluster.restart(follower).await;
    // It breaks five times; once the receiver loses its power, too.
    for round in 0..5 {
        cluster.net.limit_snapshot_requests(Some(20));
        while !cluster.net.snapshots_are_blocked() {
            sleep(Duration::from_millis(10)).await;
        }
        if round == 2 {
            cluster.crash(follower).await;
            cluster.restart(follower).await;
        }
    }
    cluster.net.limit_snapshot_requests(None);
    assert_eq!(cluster.agree().await.len(), 50);
    let sent = cluster.net.snapshot_bytes.load(Ordering::Relaxed);
    let image = 50 * 10_000 * 2; // the batches, in the log and in the state
    assert!(sent < image + image / 5, "{sent} bytes for {image}");
}

/// A snapshot uses only its part of the link, and no proposal waits for it.
#[tokio::test(start_paused = true)]
async fn a_snapshot_is_sent_no_faster_than_allowed() {
    let limits = Limits {
        snapshot_bytes_per_s: 50_000,
        ..Limits::default()
    };
    let (mut cluster, follower) = Cluster::with_one_behind(limits).await;
    let begun = Instant::now();
    cluster.restart(follower).await;
    let mut slowest = Duration::ZERO;
    while cluster.node(follower).metrics().snapshot_index.is_none() {
        let proposed = Instant::now();
        cluster.propose("meanwhile").await.unwrap();
        slowest = slowest.max(proposed.elapsed());
    }
    let sent = cluster.net.snapshot_bytes.load(Ordering::Relaxed);
    let least = Duration::from_secs_f64(sent as f64 / 50_000.0) - Duration::from_secs(1);
    assert!(sent > 500_000, "{sent} bytes");
    assert!(
        begun.elapsed() > least,
        "{sent} bytes in {:?}",
        begun.elapsed()
    );
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// The entries are many more than a node may have received and not applied.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_far_behind_catches_up_by_the_log() {
    let mut cluster = Cluster::start(3).await;
    cluster.agree().await;
    let follower = cluster.follower().await;
    cluster.kill(follower).await;
    for _ in 0..1_000 {
        cluster.propose("while it is away").await.unwrap();
    }
    cluster.restart(follower).await;
    assert_eq!(cluster.agree().await.len(), 1_000);
    assert_eq!(cluster.node(follower).metrics().snapshot_index, None);
}

/// The state is damaged and removed; log and vote are there, but the log alone is not enough.
#[tokio::test(start_paused = true)]
async fn a_node_that_lost_its_state_fetches_it() {
    let limits = Limits {
        keep_entries: 2,
        snapshot_chunk_bytes: 512,
        hold_bytes_max: 0,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, limits).await;
    for _ in 0..30 {
        cluster.propose(&"before ".repeat(100)).await.unwrap();
    }
    let follower = cluster.follower().await;
    cluster.node(follower).trigger_snapshot().await.unwrap();
    while cluster.node(follower).metrics().purged_index.is_none() {
        sleep(Duration::from_millis(10)).await;
    }
    cluster.kill(follower).await;
    let mut lost = WriteBatch::new();
    for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shared()) {
        lost.delete_range(cf, KeyRange::all());
    }
    cluster.down[&follower]
        .write(lost, Durability::Synced)
        .unwrap();
    // No other node has an image, so the first has to be made; then the transfer breaks.
    cluster.net.limit_snapshot_requests(Some(12));
    let kv = cluster.down[&follower].clone();
    let boot = cluster.restart(follower);
    assert!(
        timeout(TIMEOUT, boot).await.is_err(),
        "half of it is not enough"
    );
    let sent = cluster.net.snapshot_bytes.load(Ordering::Relaxed);
    assert!(sent > 0);
    cluster.net.limit_snapshot_requests(None);
    cluster.boot(follower, kv).await;
    assert_eq!(cluster.agree().await.len(), 30);
    cluster.propose("after").await.unwrap();
    assert_eq!(cluster.agree().await.len(), 31);
}

/// Sending the image takes longer than the cluster needs for many images' worth of entries: the log
/// after the one that is being sent has to stay until the node has caught up.
#[tokio::test(start_paused = true)]
async fn a_node_catches_up_while_others_write() {
    let limits = Limits {
        keep_entries: 2,
        snapshot_every_entries: 20,
        snapshot_chunk_bytes: 4096,
        ..Limits::default()
    };
    let mut cluster = Cluster::with_limits(3, limits).await;
    cluster.agree().await;
    let follower = cluster.follower().await;
    cluster.kill(follower).await;
    for round in 0..50u8 {
        let text = char::from(b'a' + round % 26).to_string().repeat(10_000);
        cluster.propose(&text).await.unwrap();
    }
    let leader = cluster.leader().await;
    // Longer than a silent node delays a snapshot.
    sleep(2 * TIMEOUT).await;
    let purged = |cluster: &Cluster| cluster.node(leader).metrics().purged_index;
    assert!(
        purged(&cluster) > Some(20),
        "no snapshot waits for a dead node"
    );

    let before = cluster.node(leader).metrics().last_log_index;
    cluster.restart(follower).await;
    let mut rounds = 0;
    loop {
        cluster.propose("meanwhile").await.unwrap();
        rounds += 1;
        let (one, other) = (
            cluster.node(leader).metrics(),
            cluster.node(follower).metrics(),
        );
        if other.applied_index >= one.last_log_index.map(|last| last - 2) {
            break;
        }
        assert!(rounds < 2_000, "{other:?} does not catch up with {one:?}");
    }
    assert!(
        rounds > 40,
        "more than two images' worth of entries: {rounds}"
    );
    let (sent, image) = (
        cluster.net.snapshot_bytes.load(Ordering::Relaxed),
        50 * 10_000 * 2,
    );
    assert!(
        sent < image + image / 5,
        "{sent} bytes for {image}: one image was enough"
    );
    // Then the log is purged again.
    while purged(&cluster) <= before {
        cluster.propose("afterwards").await.unwrap();
    }
    cluster.agree().await;
}

/// A snapshot waits for a node that fetches the one before, and the leader stops meanwhile: who
/// starts it again opens the same directory.
#[tokio::test(start_paused = true)]
async fn a_stopped_node_makes_no_snapshot_that_it_delayed() {
    let limits = Limits {
        snapshot_bytes_per_s: 20_000,
        ..Limits::default()
    };
    let (mut cluster, follower) = Cluster::with_one_behind(limits).await;
    cluster.restart(follower).await;
    while cluster.net.snapshot_bytes.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let leader = cluster.leader().await;
    let images = cluster.images(leader);
    let made = || -> BTreeSet<_> {
        let files = std::fs::read_dir(&images).unwrap();
        files.map(|file| file.unwrap().file_name()).collect()
    };
    let before = made();
    for _ in 0..5 {
        cluster.propose("meanwhile").await.unwrap();
    }
    cluster.node(leader).trigger_snapshot().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(made(), before, "it waits");
    cluster.kill(leader).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(made(), before, "the node has stopped");
}

/// At 400 KiB a second an append takes longer than a heartbeat, and than an election.
#[tokio::test(start_paused = true)]
async fn a_slow_link_causes_no_election() {
    let cluster = Cluster::start(3).await;
    cluster.agree().await;
    let term = cluster.node(1).metrics().term;
    cluster
        .net
        .bytes_per_second
        .store(400 << 10, Ordering::Relaxed);
    for round in 0..3u8 {
        let leader = cluster.leader().await;
        let batch = Bytes::from(vec![b'a' + round; 2 << 20]);
        let proposal = cluster.node(leader).propose(batch).await.unwrap();
        timeout(TIMEOUT, proposal.outcome()).await.unwrap().unwrap();
    }
    assert_eq!(cluster.agree().await.len(), 3);
    assert_eq!(cluster.node(1).metrics().term, term, "the leader stayed");
    let sent = cluster.net.append_bytes.load(Ordering::Relaxed);
    assert!(
        sent < 7 * (2 << 20),
        "{sent} bytes: entries were sent again and again"
    );
}

/// A new node without members waits; it never makes a cluster of its own.
#[tokio::test(start_paused = true)]
async fn a_node_without_members_waits() {
    let mut cluster = Cluster::start(1).await;
    cluster.boot(7, MemoryKv::new()).await;
    sleep(TIMEOUT).await;
    let metrics = cluster.node(7).metrics();
    assert_eq!((metrics.leader, metrics.last_log_index), (None, None));
    let error = cluster
        .node(7)
        .bootstrap(&BTreeSet::from([1, 2]))
        .await
        .unwrap_err();
    assert!(matches!(error, ConsensusError::Members(_)), "{error}");
    // Bootstrapping a cluster that exists changes nothing.
    cluster
        .node(1)
        .bootstrap(&BTreeSet::from([1]))
        .await
        .unwrap();
    cluster
        .node(1)
        .bootstrap(&BTreeSet::from([1, 7]))
        .await
        .unwrap();
    assert_eq!(cluster.node(1).metrics().voters, BTreeSet::from([1]));
}
