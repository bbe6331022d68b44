use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::NodeId;
use crate::electorate::Electorate;

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
}

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
        [7; 32]
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        signature(self.node, message)
    }

    fn verify(&self, node: NodeId, message: &[u8], given: &[u8; 64]) -> bool {
        signature(node, message) == *given
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
        self.voters.facts().excluded.contains(&node)
    }
}
