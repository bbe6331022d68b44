//! The candidate's and leader's side: it collects signed votes until they are a proof.

use std::sync::Arc;

use tokio::sync::watch;

use super::proof::{ElectionProof, SignatureBytes, SignedVote, is_quorum};
use super::voters::Voters;
use crate::NodeId;
use crate::types::{LeaderId, LogId, Vote};

/// The votes for this node in its newest term.
pub(crate) struct Candidacy {
    node_id: NodeId,
    voters: Arc<Voters>,
    /// None before this node first stood for election.
    votes: watch::Sender<Option<ElectionProof>>,
}

impl Candidacy {
    pub(crate) fn new(node_id: NodeId, voters: Arc<Voters>) -> Self {
        Self {
            node_id,
            voters,
            votes: watch::Sender::new(None),
        }
    }

    /// Begins a candidacy when the vote for it is stored: at that moment the log is the one that
    /// the candidate stands with. A node that only learns of its own committed vote changes
    /// nothing.
    pub(crate) fn stand(&self, vote: &Vote, last_log_id: Option<LogId>) {
        if vote.committed || vote.leader_id.node_id != self.node_id {
            return;
        }
        let mut proof = ElectionProof {
            term: vote.leader_id.term,
            candidate: self.node_id,
            last_log_id,
            votes: Vec::new(),
        };
        let electorate = &self.voters.electorate;
        let statement = proof.statement(&electorate.chain_id(), self.node_id);
        proof.votes.push(SignedVote {
            voter: self.node_id,
            signature: SignatureBytes(electorate.sign(&statement)),
        });
        self.votes.send_replace(Some(proof));
    }

    /// Adds a vote if its signature is the voter's; returns whether that vote is there now.
    pub(crate) fn add(&self, leader: LeaderId, voter: NodeId, signature: &SignatureBytes) -> bool {
        let Some(proof) = self.proof(leader) else {
            return false;
        };
        if proof.votes.iter().any(|vote| vote.voter == voter) {
            return true;
        }
        let electorate = &self.voters.electorate;
        let statement = proof.statement(&electorate.chain_id(), voter);
        if !electorate.verify(voter, &statement, &signature.0) {
            return false;
        }
        self.votes.send_if_modified(|votes| match votes {
            Some(proof) if proof.leader() == leader => {
                proof.votes.push(SignedVote {
                    voter,
                    signature: *signature,
                });
                true
            }
            _ => false,
        });
        true
    }

    /// The votes for this node as that leader.
    pub(crate) fn proof(&self, leader: LeaderId) -> Option<ElectionProof> {
        let votes = self.votes.borrow();
        votes.clone().filter(|proof| proof.leader() == leader)
    }

    /// Waits until the votes are a quorum of the voters in Raft's log; false if another candidacy
    /// began before. openraft counts a majority, which is less for some numbers of voters: it
    /// learns of no vote before there are enough for a proof.
    pub(crate) async fn elected(&self, leader: LeaderId) -> bool {
        let mut votes = self.votes.subscribe();
        let decided = votes.wait_for(|votes| match votes {
            Some(proof) if proof.leader() == leader => {
                let nodes = proof.votes.iter().map(|vote| vote.voter).collect();
                is_quorum(&self.voters.of_log(), &nodes)
            }
            _ => true,
        });
        let decided = decided.await;
        decided.is_ok_and(|votes| votes.as_ref().is_some_and(|proof| proof.leader() == leader))
    }
}
