use std::path::Path;

use bytes::Bytes;
use lamplighter_consensus::{EVIDENCE_MAX, EvidenceArchive};
use lamplighter_store::MemoryKv;
use lamplighter_types::limits::VALIDATORS_MAX;
use lamplighter_types::{Attestation, Genesis, Hash, HexBytes};
use tempfile::TempDir;

use super::*;
use crate::apply::state_machine::LedgerStateMachine;
use crate::tests::{genesis, machine, secret};

const NODES: u8 = VALIDATORS_MAX as u8;

fn open(machine: &LedgerStateMachine, dir: &Path) -> EvidenceStore {
    let (chain, alarms) = (machine.chain.clone(), machine.alarms.clone());
    EvidenceStore::open(dir.join("evidence"), chain, alarms).unwrap()
}

fn files(dir: &Path) -> usize {
    let found = std::fs::read_dir(dir.join("evidence"));
    found.map_or(0, Iterator::count)
}

fn two_headers(node: u8, height: u64) -> [Attestation; 2] {
    [1, 2].map(|n| Attestation::sign(height, Hash([n; 32]), &secret(node)))
}

/// Two logs of one leader that differ from this index on.
fn two_logs(genesis: &Genesis, node: u8, index: u64) -> Bytes {
    let chain_id = genesis.chain_id();
    let sign = |digest: Hash| {
        let statement = LeaderStatement {
            term: 1,
            leader: node.into(),
            index,
            digest: LogDigest(digest.0),
            signature: SignatureBytes([0; 64]),
        };
        SignedDigest {
            index,
            digest,
            signature: secret(node).sign(&statement.message(&chain_id.0)),
        }
    };
    let logs = TwoLogs {
        chain_id,
        node: node.into(),
        key: secret(node).public(),
        term: 1,
        first: sign(Hash([1; 32])),
        second: sign(Hash([2; 32])),
        base: Hash([2; 32]),
        entries: Vec::new(),
    };
    Bytes::from(Evidence::TwoLogs(logs).to_json())
}

/// Pieces and files are bounded, and a liar that fills them keeps no liar after it from being
/// excluded.
#[test]
fn evidence_is_bounded_and_excludes_every_liar() {
    let (machine, dir) = (machine(&MemoryKv::new(), NODES), TempDir::new().unwrap());
    let store = open(&machine, dir.path());
    let genesis = genesis(NODES);
    let (last, others) = (NODES, 1..NODES);
    for node in others.clone() {
        for index in 1..=100 {
            store.add_received(2, &two_logs(&genesis, node, index));
        }
        store.add_attestations(&two_headers(node, 7));
    }
    // One piece of each kind about a node: there is always space for those about all validators.
    let kept = 2 * usize::from(NODES - 1);
    assert!(kept + 2 <= EVIDENCE_MAX);
    assert_eq!(files(dir.path()), kept);
    assert!(others.clone().all(|node| store.is_excluded(node.into())));
    assert!(!store.is_excluded(last.into()));
    store.add_attestations(&two_headers(last, 7));
    let all = |store: &EvidenceStore| (1..=NODES).all(|node| store.is_excluded(node.into()));
    assert!(all(&store));
    assert_eq!(files(dir.path()), kept + 1);
    // A restart excludes the same, also with other files beside the evidence.
    for n in 0..100 {
        let name = format!("evidence/a-letter-{n}.json");
        std::fs::write(dir.path().join(name), "{}").unwrap();
    }
    assert!(all(&open(&machine, dir.path())));
}

/// A piece that is no evidence changes nothing.
#[test]
fn only_two_signatures_of_a_validators_key_are_evidence() {
    let (machine, dir) = (machine(&MemoryKv::new(), 4), TempDir::new().unwrap());
    let store = open(&machine, dir.path());
    let good = two_logs(&genesis(4), 3, 9);
    let Evidence::TwoLogs(logs) = Evidence::from_json(&good).unwrap() else {
        panic!("it is of two logs");
    };
    let same = TwoLogs {
        second: logs.first.clone(),
        base: logs.first.digest,
        ..logs.clone()
    };
    let other_chain = TwoLogs {
        chain_id: Hash([9; 32]),
        ..logs.clone()
    };
    let other_term = TwoLogs {
        term: 2,
        ..logs.clone()
    };
    let entry = EntryLink {
        header: HexBytes(vec![0; 24]),
        payload: Hash([0; 32]),
    };
    let short = TwoLogs {
        entries: vec![entry],
        ..logs.clone()
    };
    let other_node = TwoLogs { node: 4, ..logs };
    for lie in [same, other_chain, other_term, short, other_node] {
        let bytes = Bytes::from(Evidence::TwoLogs(lie).to_json());
        store.add_received(2, &bytes);
    }
    store.add_attestations(&two_headers(11, 7));
    let same = Attestation::sign(7, Hash([1; 32]), &secret(3));
    store.add_attestations(&[same.clone(), same]);
    assert_eq!(files(dir.path()), 0);
    store.add_received(2, &good);
    assert!(store.is_excluded(3));
}
