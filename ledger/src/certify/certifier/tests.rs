use std::time::Duration;

use lamplighter_consensus::StateMachine;
use lamplighter_store::{Durability, MemoryKv, WriteBatch};
use lamplighter_types::merkle::StateProof;
use lamplighter_types::{Hash, SecretKey};
use tempfile::TempDir;

use super::*;
use crate::apply::state_machine::LedgerStateMachine;
use crate::tests::{START_MS, genesis, machine, secret};

/// A node of four with one block, and its certifier.
fn node() -> (LedgerStateMachine, Certifier, TempDir) {
    let machine = machine(&MemoryKv::new(), 4);
    let entry = machine.register("first", START_MS + 1);
    machine.apply(vec![entry]).unwrap();
    let dir = TempDir::new().unwrap();
    let (chain, alarms) = (machine.chain.clone(), machine.alarms.clone());
    let evidence =
        EvidenceStore::open(dir.path().join("evidence"), chain.clone(), alarms.clone()).unwrap();
    let certifier = Certifier::new(chain, alarms, Arc::new(evidence));
    (machine, certifier, dir)
}

fn local_header(machine: &LedgerStateMachine) -> Header {
    machine.chain.read_head().header.clone()
}

fn certificate(header: &Header, keys: &[SecretKey]) -> Certificate {
    let (height, hash) = (header.height, header.hash());
    let sign = |secret: &SecretKey| Attestation::sign(height, hash, secret);
    let attestations: Vec<_> = keys.iter().map(sign).collect();
    Certificate::from_attestations(height, hash, &attestations)
}

fn certified_gossip(header: Header, keys: &[SecretKey]) -> PeerGossip {
    let certificate = certificate(&header, keys);
    PeerGossip {
        attestations: Vec::new(),
        certified: Some(CertifiedHeader {
            header,
            certificate,
        }),
    }
}

fn attested(attestations: Vec<Attestation>) -> PeerGossip {
    PeerGossip {
        attestations,
        certified: None,
    }
}

/// A header far above the chain, as the present validators may have certified it.
fn far(machine: &LedgerStateMachine, height: u64) -> Header {
    Header {
        height,
        parent: Hash([7; 32]),
        ..local_header(machine)
    }
}

#[tokio::test]
async fn a_height_counts_only_with_a_certificate_of_known_validators() {
    let (machine, certifier, _dir) = node();
    let all: Vec<_> = (1..=4).map(secret).collect();
    let strangers: Vec<_> = (11..=14).map(secret).collect();
    for height in [2, 1_000_000, u64::MAX - 1, u64::MAX] {
        let header = far(&machine, height);
        let foreign_set = Header {
            validators_hash: genesis(9).validators.hash(),
            ..header.clone()
        };
        let other_chain = Header {
            chain_id: Hash([9; 32]),
            ..header.clone()
        };
        let other_version = Header {
            version: HEADER_VERSION + 1,
            ..header.clone()
        };
        let mut moved = certified_gossip(far(&machine, 3), &all);
        if let Some(certified) = &mut moved.certified {
            certified.header.height = height;
            certified.certificate.height = height;
            certified.certificate.header = certified.header.hash();
        }
        let lies = [
            certified_gossip(header.clone(), &[]),
            certified_gossip(header.clone(), &all[..2]),
            certified_gossip(header.clone(), &strangers),
            certified_gossip(foreign_set, &strangers),
            certified_gossip(other_chain, &all),
            certified_gossip(other_version, &all),
            moved,
        ];
        for lie in lies {
            certifier.handle_gossip(lie).unwrap();
            assert_eq!(certifier.peer_certified_height(), 0);
        }
    }
    certifier
        .handle_gossip(certified_gossip(far(&machine, 90), &all[..3]))
        .unwrap();
    assert_eq!(certifier.peer_certified_height(), 90);
    certifier
        .handle_gossip(certified_gossip(local_header(&machine), &all))
        .unwrap();
    assert_eq!(machine.chain.certified_height(), 1);
    assert_eq!(certifier.peer_certified_height(), 90);
}

/// While this node was away the validators changed: it learned them with their proof.
#[tokio::test]
async fn a_height_counts_with_validators_that_a_peer_proved() {
    let (machine, certifier, _dir) = node();
    let changed = genesis(9).validators;
    let keys: Vec<_> = (1..=9).map(secret).collect();
    let header = Header {
        validators_hash: changed.hash(),
        ..far(&machine, 500)
    };
    certifier
        .handle_gossip(certified_gossip(header.clone(), &keys))
        .unwrap();
    assert_eq!(certifier.peer_certified_height(), 0);
    certifier.learn_validators(400, &changed);
    assert_eq!(certifier.peer_certified_height(), 400);
    certifier
        .handle_gossip(certified_gossip(header, &keys))
        .unwrap();
    assert_eq!(certifier.peer_certified_height(), 500);
}

/// The certificate of a change of the validators was lost on its way, those of later blocks came:
/// they say that it is to be had, or nobody would ask for it.
#[tokio::test]
async fn a_certificate_above_a_change_without_one_shows_that_it_exists() {
    let (machine, certifier, _dir) = node();
    let mut batch = WriteBatch::new();
    let path = StateProof {
        siblings: Vec::new(),
        other: None,
    };
    tables::put_validators(&mut batch, 1, &genesis(4).validators, &path);
    machine.chain.kv().write(batch, Durability::Synced).unwrap();
    let changed = local_header(&machine);
    let entry = machine.register("second", START_MS + 2);
    machine.apply(vec![entry]).unwrap();
    let all: Vec<_> = (1..=4).map(secret).collect();
    certifier
        .handle_gossip(certified_gossip(local_header(&machine), &all[..2]))
        .unwrap();
    assert_eq!(certifier.peer_certified_height(), 0, "no quorum");
    certifier
        .handle_gossip(certified_gossip(local_header(&machine), &all))
        .unwrap();
    assert_eq!(machine.chain.certified_height(), 0, "it is held up");
    assert_eq!(certifier.peer_certified_height(), 2);
    certifier
        .add_certificate(certificate(&changed, &all))
        .unwrap();
    assert_eq!(machine.chain.certified_height(), 2);
}

#[tokio::test]
async fn only_what_can_count_is_verified() {
    let (machine, certifier, _dir) = node();
    let hash = local_header(&machine).hash();
    let of = |key, height| Attestation::sign(height, hash, &secret(key));
    let wanted = |attestations: &[Attestation]| {
        let wanted = certifier.wanted(attestations.to_vec()).unwrap();
        wanted.len()
    };
    let strangers: Vec<_> = (11..=100).map(|key| of(key, 1)).collect();
    assert_eq!(wanted(&strangers), 0);
    let far = [of(2, 0), of(2, 5_000), of(2, u64::MAX)];
    assert_eq!(wanted(&far), 0);
    assert_eq!(wanted(&[of(2, 1), of(2, 1), of(3, 1)]), 2);
    certifier.handle_gossip(attested(vec![of(2, 1)])).unwrap();
    assert_eq!(wanted(&[of(2, 1)]), 0, "it is known");
    let many: Vec<_> = (1..=2_000).map(|n| of(2, 1 + n % 900)).collect();
    assert!(wanted(&many) <= ATTESTATIONS_MAX);
}

/// An honest validator's signature is shown under other heights and with other headers.
#[tokio::test(start_paused = true)]
async fn a_replayed_signature_is_no_evidence() {
    let (machine, certifier, _dir) = node();
    let honest = Attestation::sign(9, Hash([3; 32]), &secret(3));
    for height in 0..64 {
        let replayed = Attestation {
            height,
            ..honest.clone()
        };
        let forged = Attestation {
            header: Hash([height as u8; 32]),
            ..replayed.clone()
        };
        let replays = attested(vec![replayed, forged]);
        certifier.handle_gossip(replays).unwrap();
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(machine.alarms.list(), []);
}

#[tokio::test(start_paused = true)]
async fn another_header_of_a_validator_is_a_difference_until_this_nodes_is_certified() {
    let (machine, certifier, _dir) = node();
    let other = Attestation::sign(1, Hash([3; 32]), &secret(3));
    certifier
        .handle_gossip(attested(vec![other.clone()]))
        .unwrap();
    tokio::time::advance(Duration::from_secs(5)).await;
    let alarms = machine.alarms.list();
    assert_eq!(alarms[0].alarm, NodeAlarm::Divergence(other.clone()));
    let text = alarms[0].alarm.to_string();
    assert!(text.contains("differ at block 1"), "{text}");
    let header = local_header(&machine);
    let rest = [secret(1), secret(2), secret(4)];
    certifier
        .handle_gossip(certified_gossip(header, &rest))
        .unwrap();
    machine
        .alarms
        .on_certified(machine.chain.certified_height());
    assert_eq!(machine.alarms.list(), []);
    certifier.handle_gossip(attested(vec![other])).unwrap();
    assert_eq!(machine.alarms.list(), []);
}

#[tokio::test]
async fn two_headers_of_one_validator_are_evidence_against_its_key() {
    let (machine, certifier, _dir) = node();
    let computed = Attestation::sign(1, local_header(&machine).hash(), &secret(3));
    let other = Attestation::sign(1, Hash([3; 32]), &secret(3));
    let both = attested(vec![computed.clone(), other.clone()]);
    certifier.handle_gossip(both).unwrap();
    let alarms = machine.alarms.list();
    let evidence = NodeAlarm::DoubleAttestation(Box::new([computed.clone(), other.clone()]));
    assert_eq!(alarms[0].alarm, evidence);
    assert_eq!((computed.verify(), other.verify()), (Ok(()), Ok(())));
    // Above the head, too, where this node has no header of its computed yet.
    let above = |n| Attestation::sign(2, Hash([n; 32]), &secret(4));
    certifier
        .handle_gossip(attested(vec![above(1), above(2)]))
        .unwrap();
    let of_key = |n| {
        let key = secret(n).public();
        let alarms = machine.alarms.list();
        alarms.into_iter().any(|raised| match raised.alarm {
            NodeAlarm::DoubleAttestation(both) => both[0].key == key,
            _ => false,
        })
    };
    assert_eq!([1, 2, 3, 4].map(of_key), [false, false, true, true]);
}
