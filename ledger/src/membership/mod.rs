//! The nodes of the ledger: validators, voters in Raft, observers, departing nodes. Pure: facts in,
//! decision out; the chain reads the facts from the store, the reconciler carries the decision out.
//!
//! A change of the validator set takes effect on the chain at once, and on Raft's votes only when
//! its header is certified (ADR 10): until then the set that must certify it votes, and a validator
//! that it removes stays reachable.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_types::{Observer, PublicKey, Validator, ValidatorSet};

/// The nodes that one state names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNodes {
    pub validators: Arc<ValidatorSet>,
    pub observers: Vec<Observer>,
}

impl NamedNodes {
    fn names(&self, node: u64) -> bool {
        self.validators.by_node(node).is_some() || self.observers.iter().any(|o| o.node == node)
    }
}

/// The nodes that this node's chain knows, by what each is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Validators and observers after the newest block.
    pub named: NamedNodes,
    /// Raft's voters. Equal to the validators, except while a change of the set is uncertified:
    /// then the set that must certify the first such change.
    pub voters: Arc<ValidatorSet>,
    /// Nodes that are no longer named and may still be members of Raft. They stay reachable:
    /// their removal can be certified and carried out only with their help.
    pub departing: Vec<Validator>,
}

/// The members that Raft has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftMembers {
    pub voters: BTreeSet<u64>,
    pub learners: BTreeSet<u64>,
}

impl RaftMembers {
    /// Voters and learners.
    pub fn all(&self) -> BTreeSet<u64> {
        self.voters.union(&self.learners).copied().collect()
    }
}

/// The changes that make Raft's members equal to the membership, in the order to carry them out: a
/// node is a learner before it votes, and is dropped after it lost its vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftChanges {
    pub add_learners: BTreeSet<u64>,
    /// The new voters, if they differ.
    pub voters: Option<BTreeSet<u64>>,
    pub remove_learners: BTreeSet<u64>,
}

impl Membership {
    /// The membership of a state of which every change is certified.
    pub fn certified(named: NamedNodes) -> Self {
        Self {
            voters: named.validators.clone(),
            named,
            departing: Vec::new(),
        }
    }

    /// The membership at the start of a node. `certifying` is the set that must certify the first
    /// uncertified change, if there is one; `before` the set before the newest change, certified or
    /// not, whose members Raft may still have.
    pub fn at_start(
        named: NamedNodes,
        certifying: Option<Arc<ValidatorSet>>,
        before: Option<&ValidatorSet>,
    ) -> Self {
        let mut membership = Self::certified(named);
        if let Some(certifying) = certifying {
            membership.voters = certifying;
        }
        let voters = membership.voters.clone();
        let before = before.map_or(&[][..], |set| &set.validators);
        membership.add_departing(voters.validators.iter().chain(before));
        membership
    }

    /// Sets the nodes that a new state names, if there is one, and the set that must certify the
    /// first uncertified change. Returns whether anything differs.
    pub fn update(
        &mut self,
        named: Option<NamedNodes>,
        certifying: Option<Arc<ValidatorSet>>,
    ) -> bool {
        let before = self.clone();
        if let Some(named) = named {
            self.named = named;
        }
        let voters = before.voters.validators.iter();
        self.add_departing(voters.chain(&before.named.validators.validators));
        self.voters = certifying.unwrap_or_else(|| self.named.validators.clone());
        *self != before
    }

    /// Adds the former validators that are no longer named to the departing nodes, and removes the
    /// departing nodes that are named again.
    fn add_departing<'a>(&mut self, former: impl Iterator<Item = &'a Validator>) {
        self.departing.retain(|v| !self.named.names(v.node));
        for validator in former {
            let departing = |v: &Validator| v.node == validator.node;
            if !self.named.names(validator.node) && !self.departing.iter().any(departing) {
                self.departing.push(validator.clone());
            }
        }
    }

    /// Releases the departing nodes that have no vote by the ledger and are no members of Raft.
    /// Returns whether a node was released.
    pub fn release(&mut self, raft: &RaftMembers) -> bool {
        // Raft knows no member before it has read its log.
        if raft.voters.is_empty() {
            return false;
        }
        let (count, members) = (self.departing.len(), raft.all());
        let voters = &self.voters;
        self.departing
            .retain(|v| members.contains(&v.node) || voters.by_node(v.node).is_some());
        self.departing.len() != count
    }

    /// The changes that Raft's members need.
    pub fn raft_changes(&self, raft: &RaftMembers) -> RaftChanges {
        let nodes = |set: &ValidatorSet| -> BTreeSet<u64> {
            set.validators.iter().map(|v| v.node).collect()
        };
        let voters = nodes(&self.voters);
        let mut wanted = nodes(&self.named.validators);
        wanted.extend(&voters);
        wanted.extend(self.named.observers.iter().map(|o| o.node));
        RaftChanges {
            add_learners: wanted.difference(&raft.all()).copied().collect(),
            remove_learners: raft.learners.difference(&wanted).copied().collect(),
            voters: (voters != raft.voters).then_some(voters),
        }
    }

    /// Id, key and address of each node that may connect, each node once.
    pub fn all(&self) -> impl Iterator<Item = (u64, PublicKey, &str)> {
        let validators = self.named.validators.validators.iter();
        let validators = validators.chain(&self.departing);
        let validators = validators.map(|v| (v.node, v.key, v.address.as_str()));
        let observers = self.named.observers.iter();
        validators.chain(observers.map(|o| (o.node, o.key, o.address.as_str())))
    }

    /// The key of a node.
    pub fn key_of(&self, node: u64) -> Option<PublicKey> {
        let mut all = self.all();
        all.find(|(id, ..)| *id == node).map(|(_, key, _)| key)
    }

    /// The node of a key.
    pub fn node_of(&self, key: &PublicKey) -> Option<u64> {
        let mut all = self.all();
        all.find(|(_, node_key, _)| node_key == key)
            .map(|(node, ..)| node)
    }
}
