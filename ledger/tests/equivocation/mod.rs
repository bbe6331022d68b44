//! A validator that signs two contents for one place.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_consensus::wire::{
    AppendBinding, EntryPayload, ProposedBatch, decode_append, encode_append,
};
use lamplighter_consensus::{LogDigest, NodeId};
use lamplighter_ledger::evidence::Evidence;
use lamplighter_ledger::{NodeAlarm, PeerGossip, Subject};
use lamplighter_types::proof::VALIDATOR_SET_KEY;
use lamplighter_types::{Attestation, GovernanceChange, Hash, Outcome};

use crate::cluster::{Cluster, Forger, node_secret};
use crate::{WITHIN, committed};

/// Lets `liar` send a changed first batch of its next append to `victim`, rightly signed, with all
/// that follows from it.
fn two_faced(
    chain_id: [u8; 32],
    liar: NodeId,
    victim: NodeId,
    lie: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
) -> Forger {
    // The digests of the log that the victim gets, and the changed entry.
    let mut forged: BTreeMap<u64, LogDigest> = BTreeMap::new();
    let mut changed: Option<u64> = None;
    Box::new(move |from, to, request| {
        if (from, to) != (liar, victim) {
            return request;
        }
        let mut message = decode_append(request).unwrap();
        let term = message.request.vote.leader_id.term;
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
            let index = entry.log_id.index;
            if let EntryPayload::Normal(ProposedBatch(batch)) = &mut entry.payload
                && entry.log_id.leader_id.term == term
                && *changed.get_or_insert(index) == index
            {
                *batch = lie(batch).into();
            }
            digest = digest.after(entry);
            if changed.is_some_and(|changed| changed <= index) {
                forged.insert(index, digest);
            }
        }
        let secret = node_secret(liar);
        let binding = AppendBinding::signed(
            &message.request,
            prev_digest,
            &authors,
            &chain_id,
            |bytes| secret.sign(bytes).0,
        );
        encode_append(&message.request, message.proof.as_ref(), Some(binding))
    })
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, reached).await.expect(what);
}

fn accused(cluster: &Cluster, node: u64) -> Vec<u64> {
    let alarms = cluster.handle(node).status().alarms;
    let accused = alarms.into_iter().filter_map(|raised| match raised.alarm {
        NodeAlarm::Equivocation { node, .. } => Some(node),
        _ => None,
    });
    accused.collect()
}

/// The pieces of evidence on a node's disk.
fn pieces(cluster: &Cluster, node: u64) -> Vec<Evidence> {
    let Ok(files) = std::fs::read_dir(cluster.evidence(node)) else {
        return Vec::new();
    };
    files
        .map(|file| Evidence::from_json(&std::fs::read(file.unwrap().path()).unwrap()).unwrap())
        .collect()
}

/// The leader of four sends another batch to one of the others: it is found, accused and excluded,
/// the node that got the other batch comes back, and the three remove the liar.
async fn a_liar_is_found_and_removed(lie: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
    let mut cluster = Cluster::start_calm(4).await;
    let liar = cluster.leader().await;
    let honest: Vec<u64> = (1..=4).filter(|node| *node != liar).collect();
    let (victim, other) = (honest[0], honest[1]);
    let one = cluster.handle(other).clone();
    committed(one.submit(cluster.organization("before")).await.unwrap()).await;
    cluster.forge(two_faced(cluster.genesis.chain_id().0, liar, victim, lie));
    let after = committed(one.submit(cluster.organization("disputed")).await.unwrap()).await;
    until("the honest nodes accuse the liar", || {
        honest.iter().all(|node| accused(&cluster, *node) == [liar])
    })
    .await;
    cluster.crash(liar).await;
    let recovered = cluster.restart_diverged(victim);
    tokio::time::timeout(WITHIN, recovered).await.unwrap();
    let victim_handle = cluster.handle(victim).clone();
    victim_handle
        .wait_height(after.height, WITHIN)
        .await
        .unwrap();
    let hash = |node| {
        cluster
            .handle(node)
            .header(after.height)
            .unwrap()
            .unwrap()
            .hash()
    };
    assert_eq!(hash(victim), hash(other));

    let removal = GovernanceChange::RemoveValidator { node: liar };
    for signed in cluster.govern("remove-liar", removal) {
        let commitment = committed(one.submit(signed).await.unwrap()).await;
        assert_eq!(commitment.receipt.outcome, Outcome::Succeeded);
    }
    let alone = committed(one.submit(cluster.organization("alone")).await.unwrap()).await;
    for node in &honest {
        let handle = cluster.handle(*node);
        handle.wait_certified(alone.height, WITHIN).await.unwrap();
        assert_eq!(accused(&cluster, *node), [liar]);
        let pieces = pieces(&cluster, *node);
        assert!(!pieces.is_empty());
        for piece in pieces {
            // As anybody does with the genesis file alone.
            let genesis = &cluster.genesis;
            piece
                .check(&genesis.chain_id(), &genesis.validators)
                .unwrap();
            assert_eq!(piece.node(), liar);
        }
    }
    let subject = Subject::State(VALIDATOR_SET_KEY.to_vec());
    let bundle = one.prove(subject, 0, WITHIN).await.unwrap();
    bundle.verify(&cluster.genesis).unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_that_sends_another_time_is_removed() {
    a_liar_is_found_and_removed(|batch| {
        // The lowest byte of the time, after the parent.
        let mut other = batch.to_vec();
        other[32] ^= 1;
        other
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_sends_garbage_is_removed() {
    a_liar_is_found_and_removed(|_| b"garbage".to_vec()).await;
}

/// Two attestations of one key for one height are kept as evidence, passed on, and there again
/// after a restart; two of the same header are none.
#[tokio::test]
async fn a_double_attestation_is_kept_and_passed_on() {
    let mut cluster = Cluster::start(2).await;
    let one = cluster.handle(1).clone();
    committed(one.submit(cluster.organization("o")).await.unwrap()).await;
    let gossip = |headers: [u8; 2]| {
        let height = one.head().height + 2;
        let sign = |byte| Attestation::sign(height, Hash([byte; 32]), &node_secret(2));
        PeerGossip {
            attestations: headers.map(sign).to_vec(),
            certified: None,
        }
    };
    one.handle_gossip(gossip([3, 3])).await.unwrap();
    assert!(accused(&cluster, 1).is_empty());
    one.handle_gossip(gossip([4, 5])).await.unwrap();
    until("both nodes accuse it", || {
        [1, 2].iter().all(|node| accused(&cluster, *node) == [2])
    })
    .await;
    assert!(matches!(pieces(&cluster, 1)[..], [Evidence::TwoHeaders(_)]));
    cluster.crash(1).await;
    cluster.start_node(1).await;
    assert_eq!(accused(&cluster, 1), [2]);
    // A damaged file accuses nobody.
    cluster.crash(1).await;
    let mut damaged = pieces(&cluster, 1).remove(0);
    if let Evidence::TwoHeaders(headers) = &mut damaged {
        headers.second.signature.0[0] ^= 1;
    }
    for file in std::fs::read_dir(cluster.evidence(1)).unwrap() {
        std::fs::write(file.unwrap().path(), damaged.to_json()).unwrap();
    }
    cluster.start_node(1).await;
    let at_start = accused(&cluster, 1);
    assert!(at_start.is_empty());
    cluster.stop().await;
}
