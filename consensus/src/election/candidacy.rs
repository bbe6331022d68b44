//! The candidate's and leader's side: it collects signed votes until they are a proof.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::proof::{ElectionProof, SignatureBytes, SignedVote, is_quorum, liars};
use super::voters::Voters;
use crate::NodeId;
use crate::answer_check::TERMS_ADOPTED_MAX;
use crate::types::{LeaderId, LogId, Vote};

/// The votes for this node in its newest term.
pub(crate) struct Candidacy {
    node_id: NodeId,
    voters: Arc<Voters>,
    /// None before this node first stood for election.
    votes: watch::Sender<Option<ElectionProof>>,
    /// The later leaderships that voters named in their refusals of the newest candidacy.
    refusals: Mutex<BTreeMap<NodeId, LeaderId>>,
}

impl Candidacy {
    pub(crate) fn new(node_id: NodeId, voters: Arc<Voters>) -> Self {
        Self {
            node_id,
            voters,
            votes: watch::Sender::new(None),
            refusals: Mutex::default(),
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
        self.refusals().clear();
        self.votes.send_replace(Some(proof));
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<NodeId, LeaderId>> {
        self.refusals.lock().expect("no code panics with this lock")
    }

    /// Records that a voter refused because it has voted for a later leadership, which nothing
    /// proves.
    pub(crate) fn refuse(&self, leader: LeaderId, voter: NodeId, newer: LeaderId) {
        if self.proof(leader).is_some() {
            self.refusals().insert(voter, newer);
        }
    }

    /// The latest leadership that more voters than can still lie have voted for, or a later one. A
    /// single liar could otherwise raise the terms of the candidates one after the other, so that
    /// none ever had the highest. If too few name one, the candidate's next term is higher by one,
    /// and the voter that refused stands for election itself. If two name one at least, it may have
    /// any term: so a node that was down comes back among others whose terms a liar raised.
    ///
    /// Proven liars are among those that can, and are heard no more.
    ///
    /// If all others that answered have voted for this node, and a quorum needs those that refused
    /// as well, the latest that one of them names is believed, unless the next candidacy reaches
    /// its term anyway: a voter with a short log, whose term a liar raised, can neither be elected
    /// nor vote for a lower term. Where it is the liar that refused, there is no quorum without it,
    /// and it could as well be silent.
    ///
    /// One node's word raises the term by [`TERMS_ADOPTED_MAX`] at most.
    pub(crate) fn believed_refusal(&self) -> Option<LeaderId> {
        let is_excluded = |node: &NodeId| self.voters.electorate.is_excluded(*node);
        let unproven = |set: &BTreeSet<NodeId>| {
            let proven = set.iter().filter(|node| is_excluded(node)).count();
            liars(set.len()).saturating_sub(proven)
        };
        let liars = self.voters.of_log().iter().map(unproven).max()?;
        let refusals = self.refusals();
        let counted = refusals.iter().filter(|(node, _)| !is_excluded(node));
        let mut named: Vec<_> = counted.map(|(_, newer)| *newer).collect();
        named.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(newer) = named.get(liars.max(1)) {
            return Some(*newer);
        }
        let candidacy = self.votes.borrow();
        let candidacy = candidacy.as_ref()?;
        let highest = candidacy.term.saturating_add(TERMS_ADOPTED_MAX);
        let adopted = |newer: LeaderId| LeaderId::new(newer.term.min(highest), newer.node_id);
        if let Some(newer) = named.get(liars) {
            return Some(adopted(*newer));
        }
        let voted = candidacy.votes.iter().map(|vote| vote.voter);
        let refused = refusals.keys().filter(|node| !is_excluded(node)).copied();
        let answered = voted.chain(refused).collect();
        let latest = named.first().copied().map(adopted);
        let is_beyond = |newer: &LeaderId| newer.term > candidacy.term.saturating_add(1);
        latest.filter(|newer| is_beyond(newer) && is_quorum(&self.voters.of_log(), &answered))
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
