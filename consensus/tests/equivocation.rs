//! A leader that sends two contents under one log id.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Forger, TIMEOUT};
use lamplighter_consensus::suite::{SharedVoters, TestElectorate};
use lamplighter_consensus::wire::{
    AppendBinding, EntryPayload, LeaderStatement, ProposedBatch, SignatureBytes, decode_append,
    encode_append,
};
use lamplighter_consensus::{
    ConsensusError, Electorate, LogDigest, NodeId, RaftLane, has_diverged, reset,
};
use tokio::time::{sleep, timeout};

/// Lets `liar` send another batch instead of `original` to `victim`, rightly signed, with all that
/// follows from it.
fn two_faced(
    voters: Arc<SharedVoters>,
    liar: NodeId,
    victim: NodeId,
    original: &'static [u8],
) -> Forger {
    let electorate = TestElectorate { node: liar, voters };
    // The digests of the log that the victim gets, where it differs.
    let mut forged: BTreeMap<u64, LogDigest> = BTreeMap::new();
    Box::new(move |from, to, lane, request| {
        if (from, to, lane) != (liar, victim, RaftLane::Append) {
            return request;
        }
        let mut message = decode_append(request).unwrap();
        let mut digest = message.binding.unwrap().prev_digest;
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
        let last = message.request.entries.last().unwrap().log_id;
        let statement = LeaderStatement {
            term: message.request.vote.leader_id.term,
            leader: liar,
            index: last.index,
            digest,
            signature: SignatureBytes([0; 64]),
        };
        let signature = electorate.sign(&statement.message(&electorate.chain_id()));
        let binding = AppendBinding {
            prev_digest,
            signature: SignatureBytes(signature),
        };
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
    let forger = two_faced(cluster.voters.clone(), liar, victim, b"original");
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
    cluster.net.cut(liar);
    recover(&mut cluster, victim).await;
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
