//! Signed votes, and the election proof that they make.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::NodeId;
use crate::electorate::Electorate;
use crate::types::{LeaderId, LogId, MEMBERS_MAX};

/// The first bytes of a signed vote.
const VOTE_DOMAIN: &[u8] = b"lamplighter/raft-vote/2\0";

/// An Ed25519 signature on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignatureBytes(pub [u8; 64]);

impl std::fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", hex::encode(&self.0[..8]))
    }
}

/// serde knows arrays of up to 32 bytes; two of them have the same encoding as one of 64.
impl Serialize for SignatureBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut first, mut second) = ([0u8; 32], [0u8; 32]);
        first.copy_from_slice(&self.0[..32]);
        second.copy_from_slice(&self.0[32..]);
        (first, second).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SignatureBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (first, second) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&first);
        bytes[32..].copy_from_slice(&second);
        Ok(Self(bytes))
    }
}

/// The signature of one voter under its vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVote {
    pub voter: NodeId,
    pub signature: SignatureBytes,
}

/// The votes that made a node the leader of a term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionProof {
    pub term: u64,
    pub candidate: NodeId,
    /// The last entry of the candidate's log when it stood for election. The votes are signed
    /// for it: a leader can't replace what it then claimed to have.
    pub last_log_id: Option<LogId>,
    pub votes: Vec<SignedVote>,
}

impl ElectionProof {
    /// The statement that a voter signs.
    pub fn statement(&self, chain_id: &[u8; 32], voter: NodeId) -> Vec<u8> {
        let mut message = VOTE_DOMAIN.to_vec();
        message.extend_from_slice(chain_id);
        for number in [self.term, self.candidate, voter] {
            message.extend_from_slice(&number.to_le_bytes());
        }
        let last = self.last_log_id;
        message.push(last.is_some().into());
        let last = last.unwrap_or_default();
        for number in [last.leader_id.term, last.leader_id.node_id, last.index] {
            message.extend_from_slice(&number.to_le_bytes());
        }
        message
    }
}

/// The number of voters that elect a leader and commit an entry: that of a certificate, which is
/// larger than a majority for 5 voters and from 7 on. Two quorums have an honest voter in common
/// although `⌊(n-1)/3⌋` of them lie.
pub fn quorum(voters: usize) -> usize {
    (voters + liars(voters)) / 2 + 1
}

/// The number of voters that may lie.
pub(super) fn liars(voters: usize) -> usize {
    voters.saturating_sub(1) / 3
}

/// True if `nodes` have a quorum of one set.
fn is_quorum_of(voters: &BTreeSet<NodeId>, nodes: &BTreeSet<NodeId>) -> bool {
    !voters.is_empty() && voters.intersection(nodes).count() >= quorum(voters.len())
}

impl ElectionProof {
    /// The leader that is proven.
    pub(crate) fn leader(&self) -> LeaderId {
        LeaderId::new(self.term, self.candidate)
    }

    /// The voters of one of these sets whose votes are here. None if a vote of one of them was not
    /// signed by it, or is here twice: a leader sends only what it has checked.
    fn signers(
        &self,
        sets: &[Vec<BTreeSet<NodeId>>],
        electorate: &dyn Electorate,
    ) -> Option<BTreeSet<NodeId>> {
        if self.votes.len() > MEMBERS_MAX {
            return None;
        }
        let chain_id = electorate.chain_id();
        let counts = |node: &NodeId| sets.iter().flatten().any(|set| set.contains(node));
        let mut signers = BTreeSet::new();
        for SignedVote { voter, signature } in self.votes.iter().filter(|vote| counts(&vote.voter))
        {
            let statement = self.statement(&chain_id, *voter);
            if !signers.insert(*voter) || !electorate.verify(*voter, &statement, &signature.0) {
                return None;
            }
        }
        Some(signers)
    }

    /// True if the votes are a quorum of one of `sets`, each of which may be a joint one: then of
    /// each of its parts. Excluded voters count for nothing.
    pub(crate) fn is_valid(
        &self,
        sets: &[Vec<BTreeSet<NodeId>>],
        electorate: &dyn Electorate,
    ) -> bool {
        let Some(mut signers) = self.signers(sets, electorate) else {
            return false;
        };
        signers.retain(|node| !electorate.is_excluded(*node));
        sets.iter().any(|joint| is_quorum(joint, &signers))
    }

    /// True if the votes were a quorum, those of voters included that are proven to lie since: the
    /// leadership was one, and other nodes have its entries.
    pub(crate) fn was_valid(
        &self,
        sets: &[Vec<BTreeSet<NodeId>>],
        electorate: &dyn Electorate,
    ) -> bool {
        let signers = self.signers(sets, electorate);
        signers.is_some_and(|signers| sets.iter().any(|joint| is_quorum(joint, &signers)))
    }
}

/// True if `nodes` have a quorum of each part of a set that may be a joint one.
pub(crate) fn is_quorum(joint: &[BTreeSet<NodeId>], nodes: &BTreeSet<NodeId>) -> bool {
    !joint.is_empty() && joint.iter().all(|voters| is_quorum_of(voters, nodes))
}
