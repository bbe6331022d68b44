//! A leader that sends two contents under one log id.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Forger, TIMEOUT};
use lamplighter_consensus::suite::{SharedVoters, TestElectorate};
use lamplighter_consensus::wire::{
    self, AppendBinding, AppendMessage, ControlRequest, EntryPayload, LeaderStatement, LogId,
    ProposedBatch, SignatureBytes, Vote, decode_append, encode_append,
};
use lamplighter_consensus::{
    ConsensusError, Electorate, LogDigest, NodeId, RaftLane, ServeError, has_diverged, reset,
};
use lamplighter_store::{Cf, Fault, MemoryKv, WriteBatch};
use openraft::CommittedLeaderId;
use openraft::raft::VoteRequest;
use tokio::time::{sleep, timeout};

/// Lets `liar` send another batch instead of `original` to `victims`, rightly signed, with all that
/// follows from it.
fn two_faced(
    voters: Arc<SharedVoters>,
    liar: NodeId,
    victims: &[NodeId],
    original: &'static [u8],
) -> Forger {
    let (electorate, victims) = (TestElectorate { node: liar, voters }, victims.to_vec());
    // The digests of the log that the victim gets, where it differs.
    let mut forged: BTreeMap<u64, LogDigest> = BTreeMap::new();
    Box::new(move |from, to, lane, request| {
        if (from, lane) != (liar, RaftLane::Append) || !victims.contains(&to) {
            return request;
        }
        let mut message = decode_append(request).unwrap();
        let AppendBinding {
            prev_digest: mut digest,
            authors,
            ..
        } = message.binding.unwrap();
        if let Some(prev) = message.request.prev_log_id {
            digest = forged.get(&prev.index).copied().unwrap_or(digest);
        }
        let prev_digest = digest;
        for entry in &mut message.request.entries {
            let mut lie = false;
            if let EntryPayload::Normal(ProposedBatch(batch)) = &mut entry.payload
                && batch[..] == *original
            {
                *batch = Bytes::from_static(b"a lie");
                lie = true;
            }
            digest = digest.after(entry);
            if lie || !forged.is_empty() {
                forged.insert(entry.log_id.index, digest);
            }
        }
        let binding = AppendBinding::signed(
            &message.request,
            prev_digest,
            &authors,
            &electorate.chain_id(),
            |bytes| electorate.sign(bytes),
        );
        encode_append(&message.request, message.proof.as_ref(), Some(binding))
    })
}

/// Waits until `condition` holds.
async fn wait_for(what: &str, condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, reached).await.expect(what);
}

async fn holds(cluster: &Cluster, node: NodeId, batch: &str) -> bool {
    let batches = cluster.nodes[&node].machine.batches().unwrap();
    batches.iter().any(|(_, held)| *held == *batch.as_bytes())
}

/// Ends a node that diverged, and starts it again.
async fn recover(cluster: &mut Cluster, id: NodeId) {
    let stopped = timeout(TIMEOUT, cluster.node(id).stopped()).await.unwrap();
    assert!(matches!(stopped, ConsensusError::Diverged(_)), "{stopped}");
    cluster.kill(id).await;
    let kv = &cluster.down[&id];
    assert!(has_diverged(kv).unwrap());
    assert!(reset(kv, &cluster.config(id).snapshot_dir, |_| ()).unwrap());
    cluster.restart(id).await;
}

#[tokio::test(start_paused = true)]
async fn the_diverted_node_finds_the_liar_and_catches_up() {
    let mut cluster = Cluster::start(4).await;
    cluster.propose("before").await.unwrap();
    cluster.agree().await;
    let liar = cluster.leader().await;
    let honest: Vec<NodeId> = (1..=4).filter(|id| *id != liar).collect();
    let victim = honest[0];
    let forger = two_faced(cluster.voters.clone(), liar, &[victim], b"original");
    *cluster.net.forger.lock().unwrap() = Some(forger);
    cluster.propose("original").await.unwrap();
    cluster.propose("next").await.unwrap();
    wait_for("the victim applies the lie", async || {
        holds(&cluster, victim, "a lie").await && holds(&cluster, honest[1], "original").await
    })
    .await;

    let seconds = tokio::time::Instant::now();
    wait_for("all have the evidence", async || {
        let has = |id: &NodeId| !cluster.voters.evidence(*id).is_empty();
        honest.iter().all(has)
    })
    .await;
    assert!(seconds.elapsed() < Duration::from_secs(5), "{seconds:?}");
    for id in &honest {
        for evidence in cluster.voters.evidence(*id) {
            assert_eq!(evidence.leader(), liar, "no other node is accused");
        }
    }
    recover(&mut cluster, victim).await;
    // It is excluded, though it goes on: nobody follows it any more.
    wait_for("another node leads", async || {
        let leader = |id: &NodeId| cluster.node(*id).metrics().leader;
        let other = |id: &NodeId| leader(id).is_some_and(|leader| leader != liar);
        honest[1..].iter().all(other)
    })
    .await;
    cluster.net.cut(liar);
    wait_for("the victim has the others' log", async || {
        holds(&cluster, victim, "original").await && !holds(&cluster, victim, "a lie").await
    })
    .await;
    timeout(TIMEOUT, cluster.propose("after"))
        .await
        .unwrap()
        .unwrap();
    wait_for("all go on", async || {
        let mut all = true;
        for id in &honest {
            all &= holds(&cluster, *id, "after").await;
        }
        all
    })
    .await;
    // It is over: nobody else drops anything.
    sleep(Duration::from_secs(10)).await;
    for id in &honest {
        assert!(!has_diverged(&cluster.nodes[id].kv).unwrap());
    }
}

/// A cluster of four of which one node got another content, diverged and ended, with the disk as it
/// is then; the liar is cut off.
async fn one_diverged() -> (Cluster, NodeId, Vec<NodeId>) {
    let mut cluster = Cluster::start(4).await;
    cluster.propose("before").await.unwrap();
    cluster.agree().await;
    let liar = cluster.leader().await;
    let honest: Vec<NodeId> = (1..=4).filter(|id| *id != liar).collect();
    let victim = honest[0];
    let forger = two_faced(cluster.voters.clone(), liar, &[victim], b"original");
    *cluster.net.forger.lock().unwrap() = Some(forger);
    cluster.propose("original").await.unwrap();
    let stopped = timeout(TIMEOUT, cluster.node(victim).stopped()).await;
    assert!(matches!(stopped, Ok(ConsensusError::Diverged(_))));
    cluster.net.cut(liar);
    cluster.kill(victim).await;
    (cluster, victim, honest)
}

/// A crash at any step of the recovery is repeated or done, and the cluster goes on.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_of_the_recovery_is_survived() {
    type Step = fn(&MemoryKv, &Path) -> MemoryKv;
    let steps: [(&str, Step); 5] = [
        ("after the note", |kv, _| kv.crash()),
        ("after the images are removed", |kv, images| {
            std::fs::remove_dir_all(images).unwrap();
            kv.crash()
        }),
        ("the drop is not written", |kv, images| {
            kv.plan(Fault {
                after_writes: 0,
                persisted: false,
                lasting: true,
            });
            assert!(reset(kv, images, |_| ()).is_err());
            kv.crash()
        }),
        ("the drop is written, and not reported", |kv, images| {
            kv.plan(Fault {
                after_writes: 0,
                persisted: true,
                lasting: true,
            });
            assert!(reset(kv, images, |_| ()).is_err());
            kv.kill()
        }),
        ("after the drop", |kv, images| {
            reset(kv, images, |_| ()).unwrap();
            kv.crash()
        }),
    ];
    for (what, step) in steps {
        let (mut cluster, victim, honest) = one_diverged().await;
        let images = cluster.config(victim).snapshot_dir;
        let kv = step(&cluster.down[&victim], &images);
        reset(&kv, &images, |_| ()).unwrap();
        cluster.down.insert(victim, kv);
        cluster.restart(victim).await;
        timeout(TIMEOUT, cluster.propose("after"))
            .await
            .expect(what)
            .unwrap();
        wait_for(what, async || {
            let mut all = true;
            for id in &honest {
                all &= holds(&cluster, *id, "after").await && !holds(&cluster, *id, "a lie").await;
            }
            all
        })
        .await;
    }
}

/// Lets every leader but the liar give `victim` the liar's other batch, as one would that had not
/// dropped it: with the signature of the liar that made it.
fn fed_again(voters: Arc<SharedVoters>, liar: NodeId, victim: NodeId) -> Forger {
    let as_node = move |node: NodeId| TestElectorate {
        node,
        voters: voters.clone(),
    };
    Box::new(move |from, to, lane, request| {
        if from == liar || to != victim || lane != RaftLane::Append {
            return request;
        }
        let mut message = decode_append(request).unwrap();
        let AppendBinding {
            prev_digest,
            mut authors,
            ..
        } = message.binding.unwrap();
        let (leader, mut digest) = (as_node(from), prev_digest);
        let chain_id = leader.chain_id();
        let mut lies = false;
        for (entry, author) in message.request.entries.iter_mut().zip(&mut authors) {
            if let EntryPayload::Normal(ProposedBatch(batch)) = &mut entry.payload
                && *batch == b"original"[..]
            {
                *batch = Bytes::from_static(b"a lie");
                lies = true;
            }
            digest = digest.after(entry);
            let maker = entry.log_id.leader_id;
            if lies && maker.node_id == liar {
                let statement = LeaderStatement {
                    term: maker.term,
                    leader: liar,
                    index: entry.log_id.index,
                    digest,
                    signature: SignatureBytes([0; 64]),
                };
                let signature = as_node(liar).sign(&statement.message(&chain_id));
                *author = SignatureBytes(signature);
            }
        }
        let binding = AppendBinding::signed(
            &message.request,
            prev_digest,
            &authors,
            &chain_id,
            |bytes| leader.sign(bytes),
        );
        encode_append(&message.request, message.proof.as_ref(), Some(binding))
    })
}

/// A node takes a content that it found dead from nobody, whoever leads. Without the note of it,
/// it would: then nothing else is in the way.
#[tokio::test(start_paused = true)]
async fn a_dropped_content_is_not_taken_again() {
    for forgets in [false, true] {
        let (mut cluster, victim, honest) = one_diverged().await;
        let liar = (1..=4).find(|id| !honest.contains(id)).unwrap();
        let kv = &cluster.down[&victim];
        let images = cluster.config(victim).snapshot_dir;
        let forget = |batch: &mut WriteBatch| {
            if forgets {
                batch.delete(Cf::Meta, &b"raft/dropped"[..]);
            }
        };
        reset(kv, &images, forget).unwrap();
        let forger = fed_again(cluster.voters.clone(), liar, victim);
        *cluster.net.forger.lock().unwrap() = Some(forger);
        cluster.restart(victim).await;
        let fed = timeout(Duration::from_secs(30), async {
            while !holds(&cluster, victim, "a lie").await {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert_eq!(fed.is_ok(), forgets, "of {honest:?} node {victim}");
        if forgets {
            continue;
        }
        // From a leader that has the other content it catches up.
        *cluster.net.forger.lock().unwrap() = None;
        wait_for("the victim has the others' log", async || {
            holds(&cluster, victim, "original").await
        })
        .await;
    }
}

/// Until its log is where it was, a node that dropped it votes for no candidate that is behind, and
/// does not stand for election.
#[tokio::test(start_paused = true)]
async fn a_node_without_its_log_elects_no_candidate_behind_it() {
    let (mut cluster, victim, honest) = one_diverged().await;
    let kv = &cluster.down[&victim];
    reset(kv, &cluster.config(victim).snapshot_dir, |_| ()).unwrap();
    for id in &honest[1..] {
        cluster.net.cut(*id);
    }
    cluster.restart(victim).await;
    wait_for("the stored vote", async || {
        cluster.node(victim).metrics().term > 0
    })
    .await;
    let term = cluster.node(victim).metrics().term;
    let candidate = honest[1];
    let liar = (1..=4).find(|id| !honest.contains(id)).unwrap();
    for (index, behind) in [(1, true), (1_000, false)] {
        let last = LogId::new(CommittedLeaderId::new(term, liar), index);
        let request = VoteRequest::new(Vote::new(term + 1, candidate), Some(last));
        let request = ControlRequest::Vote {
            request,
            log_proof: None,
        };
        let bytes = wire::encode(&request).into();
        let answer = cluster
            .node(victim)
            .serve(candidate, RaftLane::Control, bytes)
            .await;
        let refused = matches!(&answer, Err(ServeError::Invalid { reason, .. })
            if reason.contains("acknowledged"));
        assert_eq!(refused, behind, "{answer:?}");
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        cluster.node(victim).metrics().term,
        term,
        "it did not stand"
    );
}

/// A leader that changes what an earlier one left uncommitted deceives nobody: the author did not
/// sign it. The author's log stays one that all can have, and no node has to drop anything.
#[tokio::test(start_paused = true)]
async fn the_next_leader_cannot_change_the_entries_of_the_one_before() {
    let cluster = Cluster::start(4).await;
    cluster.propose("before").await.unwrap();
    cluster.agree().await;
    let author = cluster.leader().await;
    let others: Vec<NodeId> = (1..=4).filter(|id| *id != author).collect();
    let (liar, deceived) = (others[0], others[1..].to_vec());
    // The entry reaches the liar alone.
    let without = deceived.clone();
    *cluster.net.forger.lock().unwrap() = Some(Box::new(move |from, to, lane, request| {
        let lost = from == author && without.contains(&to) && lane == RaftLane::Append;
        if lost { Bytes::new() } else { request }
    }));
    let uncommitted = timeout(Duration::from_secs(1), cluster.propose("original")).await;
    assert!(uncommitted.is_err());
    cluster.net.cut(author);
    // Its log is the longest of the rest, so nobody else is elected.
    let forger = two_faced(cluster.voters.clone(), liar, &deceived, b"original");
    *cluster.net.forger.lock().unwrap() = Some(forger);
    wait_for("the liar leads", async || {
        let follows = |id: &NodeId| cluster.node(*id).metrics().leader == Some(liar);
        deceived.iter().all(follows)
    })
    .await;
    sleep(Duration::from_secs(3)).await;
    cluster.net.heal();
    cluster.net.cut(liar);
    timeout(TIMEOUT, cluster.propose("after"))
        .await
        .expect("the honest nodes agree")
        .unwrap();
    wait_for("all go on with the author's entry", async || {
        let mut all = true;
        for id in others[1..].iter().chain([&author]) {
            all &= holds(&cluster, *id, "original").await && holds(&cluster, *id, "after").await;
            all &= !holds(&cluster, *id, "a lie").await;
        }
        all
    })
    .await;
    for id in 1..=4 {
        assert!(cluster.voters.evidence(id).is_empty(), "nobody is accused");
    }
}

/// Entries without the leader's signature, or other ones than it signed, do not reach the log.
#[tokio::test(start_paused = true)]
async fn unsigned_and_changed_entries_are_refused() {
    type Change = fn(&mut AppendMessage);
    let changes: [(&str, Change); 6] = [
        ("no signature", |message| message.binding = None),
        ("no signature of the author", |message| {
            if let Some(binding) = &mut message.binding {
                binding.authors.clear();
            }
        }),
        ("another signature of the author", |message| {
            if let Some(binding) = &mut message.binding {
                binding.authors[0].0[5] ^= 1;
            }
        }),
        ("another signature", |message| {
            if let Some(binding) = &mut message.binding {
                binding.signature.0[5] ^= 1;
            }
        }),
        ("another log before", |message| {
            if let Some(binding) = &mut message.binding {
                binding.prev_digest.0[5] ^= 1;
            }
        }),
        ("another batch", |message| {
            for entry in &mut message.request.entries {
                if let EntryPayload::Normal(ProposedBatch(batch)) = &mut entry.payload {
                    *batch = Bytes::from_static(b"changed on the way");
                }
            }
        }),
    ];
    for (what, change) in changes {
        let cluster = Cluster::start(3).await;
        cluster.agree().await;
        let victim = cluster.follower().await;
        *cluster.net.forger.lock().unwrap() = Some(Box::new(move |_, to, lane, request| {
            if to != victim || lane != RaftLane::Append {
                return request;
            }
            let mut message = decode_append(request).unwrap();
            change(&mut message);
            encode_append(&message.request, message.proof.as_ref(), message.binding)
        }));
        cluster.propose("batch").await.unwrap();
        sleep(Duration::from_secs(3)).await;
        assert!(
            cluster.nodes[&victim].machine.batches().unwrap().is_empty(),
            "{what}"
        );
        *cluster.net.forger.lock().unwrap() = None;
        cluster.propose("more").await.unwrap();
        assert_eq!(cluster.agree().await, ["batch", "more"], "{what}");
        assert!(
            cluster.voters.evidence(1).is_empty(),
            "{what}: nobody is accused"
        );
    }
}
