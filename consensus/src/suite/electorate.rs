use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::NodeId;
use crate::codec;
use crate::electorate::Electorate;
use crate::evidence::{EvidenceArchive, LeaderEvidence};

/// The voters of a test, which all its nodes share: what a ledger would explain.
#[derive(Default)]
pub struct SharedVoters(Mutex<Facts>);

#[derive(Default)]
struct Facts {
    /// Every set that had the votes, in order.
    sets: Vec<BTreeSet<NodeId>>,
    /// Nodes that are named without a vote.
    observers: BTreeSet<NodeId>,
    excluded: BTreeSet<NodeId>,
    /// What each node found or received.
    evidence: BTreeMap<NodeId, Vec<LeaderEvidence>>,
}

impl SharedVoters {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().expect("no code panics with this lock")
    }

    /// Appends a set, which has the votes from now on.
    pub fn set(&self, voters: BTreeSet<NodeId>) {
        self.facts().sets.push(voters);
    }

    pub fn add_observer(&self, node: NodeId) {
        self.facts().observers.insert(node);
    }

    pub fn exclude(&self, node: NodeId) {
        self.facts().excluded.insert(node);
    }

    /// The evidence that a node has.
    pub fn evidence(&self, node: NodeId) -> Vec<LeaderEvidence> {
        self.facts()
            .evidence
            .get(&node)
            .cloned()
            .unwrap_or_default()
    }
}

/// The evidence of one node of a test; one piece about each leader.
struct TestArchive {
    node: NodeId,
    voters: Arc<SharedVoters>,
}

impl TestArchive {
    fn add(&self, evidence: LeaderEvidence) {
        let leader = evidence.leader();
        let verify = |message: &[u8], bytes: &[u8; 64]| signature(leader, message) == *bytes;
        if evidence.check(&CHAIN_ID, verify).is_err() {
            return;
        }
        let mut facts = self.voters.facts();
        let kept = facts.evidence.entry(self.node).or_default();
        if kept.iter().all(|kept| kept.leader() != leader) {
            kept.push(evidence);
        }
    }
}

impl EvidenceArchive for TestArchive {
    fn accused(&self) -> Vec<NodeId> {
        let evidence = self.voters.evidence(self.node);
        evidence.iter().map(LeaderEvidence::leader).collect()
    }

    fn read(&self, accused: NodeId) -> Option<Bytes> {
        let evidence = self.voters.evidence(self.node);
        let of_node = evidence
            .iter()
            .find(|evidence| evidence.leader() == accused);
        of_node.map(|evidence| codec::encode(evidence).into())
    }

    fn add_found(&self, evidence: &LeaderEvidence) {
        self.add(evidence.clone());
    }

    fn add_received(&self, _: NodeId, evidence: &Bytes) {
        if let Ok(evidence) = codec::decode("evidence", evidence) {
            self.add(evidence);
        }
    }
}

const CHAIN_ID: [u8; 32] = [7; 32];

/// The electorate of one node of a test. A signature is a hash over the node's id and the
/// statement: nobody in a test computes that of another node.
pub struct TestElectorate {
    pub node: NodeId,
    pub voters: Arc<SharedVoters>,
}

fn signature(node: NodeId, message: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&node.to_le_bytes()).update(message);
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

impl Electorate for TestElectorate {
    fn chain_id(&self) -> [u8; 32] {
        CHAIN_ID
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        signature(self.node, message)
    }

    fn verify(&self, node: NodeId, message: &[u8], claimed: &[u8; 64]) -> bool {
        signature(node, message) == *claimed
    }

    fn has_key(&self, node: NodeId) -> bool {
        self.names(node)
    }

    fn electors(&self) -> Vec<BTreeSet<NodeId>> {
        self.voters
            .facts()
            .sets
            .last()
            .cloned()
            .into_iter()
            .collect()
    }

    fn explains(&self, voters: &BTreeSet<NodeId>) -> Option<u64> {
        let facts = self.voters.facts();
        let place = facts.sets.iter().rposition(|set| set == voters);
        place.map(|place| place as u64)
    }

    fn names(&self, node: NodeId) -> bool {
        let facts = self.voters.facts();
        facts.observers.contains(&node) || facts.sets.iter().any(|set| set.contains(&node))
    }

    fn is_excluded(&self, node: NodeId) -> bool {
        let proven = |evidence: &LeaderEvidence| evidence.leader() == node;
        self.voters.facts().excluded.contains(&node)
            || self.voters.evidence(self.node).iter().any(proven)
    }

    fn evidence(&self) -> Option<Arc<dyn EvidenceArchive>> {
        Some(Arc::new(TestArchive {
            node: self.node,
            voters: self.voters.clone(),
        }))
    }
}
