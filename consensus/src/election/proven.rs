//! The follower's and voter's side: which leadership is proven, and what this node has signed.
//!
//! # What this node acknowledged in a proven term is never truncated without proof of a later one
//!
//! An entry leaves the log in one place only, openraft's answer to an append (or to the place
//! before it, in a heartbeat), and an installed image replaces it by certified state. Both come
//! from a leader, and every request of a leader passes [`ProvenLeaders::check`] first: its vote is
//! at least this node's own, and it is this node's proven leader or it shows a quorum's votes for
//! a later leadership. `append_check` then refuses what no elected leader does with an older log:
//! to replace its own entries, entries below the commit, or entries of the leadership that its own
//! log ended with when it stood for election (the voters signed that place). So an acknowledged
//! entry can only be replaced by a leader with a proof that is later than the entry's.
//!
//! The proofs of the newest leaderships are stored, synced, before the first entry of a leadership
//! is. As a candidate the node shows the one that its last entry came from: a voter that does not
//! know that term would otherwise have to believe a claim.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use super::proof::{ElectionProof, SignatureBytes};
use super::voters::Voters;
use crate::NodeId;
use crate::types::{LeaderId, LogId, Vote};

/// Proofs of leaderships that are kept: the newest, and those before it of which the log may have
/// the last entry. Each needed a quorum of votes, so a liar alone adds none.
const PROOFS_MAX: usize = 8;

/// How a leader's request stands.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Its leadership is proven, with this proof.
    Proven(Arc<ElectionProof>),
    /// Its leadership is proven with this request; the proof is to be stored first.
    New(Arc<ElectionProof>),
    /// This node has voted for a later one.
    Stale(Vote),
    /// It has to show its proof.
    Unproven,
}

/// What this node knows of leaderships.
pub(crate) struct ProvenLeaders {
    node_id: NodeId,
    voters: Arc<Voters>,
    proofs: Mutex<VecDeque<Arc<ElectionProof>>>,
    /// The newest vote that this node signed, as the statement's subject and its signature.
    signed: Mutex<Option<SignedStatement>>,
}

#[derive(Clone, Copy)]
struct SignedStatement {
    leader: LeaderId,
    last_log_id: Option<LogId>,
    signature: SignatureBytes,
}

impl ProvenLeaders {
    pub(crate) fn new(node_id: NodeId, voters: Arc<Voters>, stored: Vec<ElectionProof>) -> Self {
        Self {
            node_id,
            voters,
            proofs: Mutex::new(stored.into_iter().map(Arc::new).collect()),
            signed: Mutex::default(),
        }
    }

    fn proofs(&self) -> MutexGuard<'_, VecDeque<Arc<ElectionProof>>> {
        self.proofs.lock().expect("no code panics with this lock")
    }

    fn known(&self, leader: LeaderId) -> Option<Arc<ElectionProof>> {
        let proofs = self.proofs();
        proofs
            .iter()
            .find(|proof| proof.leader() == leader)
            .cloned()
    }

    /// True if the proof of a leadership is stored.
    pub(crate) fn knows(&self, leader: LeaderId) -> bool {
        self.known(leader).is_some()
    }

    /// Checks the leadership that a request claims.
    pub(crate) fn check(&self, vote: &Vote, proof: Option<ElectionProof>) -> Standing {
        let local = self.voters.local_vote();
        if local.leader_id > vote.leader_id {
            return Standing::Stale(local);
        }
        if let Some(known) = self.known(vote.leader_id) {
            return Standing::Proven(known);
        }
        match proof {
            Some(proof) if proof.leader() == vote.leader_id && self.is_valid(&proof) => {
                Standing::New(Arc::new(proof))
            }
            _ => Standing::Unproven,
        }
    }

    fn is_valid(&self, proof: &ElectionProof) -> bool {
        proof.is_valid(&self.voters.electing(), &*self.voters.electorate)
    }

    /// The proofs with a new one, to be stored; those that no last entry of this log can have come
    /// from are left out.
    pub(crate) fn with(&self, new: &ElectionProof, last: Option<LogId>) -> Vec<ElectionProof> {
        let last = last.map(|last| last.leader_id);
        let proofs = self.proofs();
        let mut kept: Vec<_> = proofs
            .iter()
            .filter(|proof| Some(proof.leader()) >= last && proof.leader() != new.leader())
            .map(|proof| ElectionProof::clone(proof))
            .collect();
        kept.push(new.clone());
        kept.sort_by_key(ElectionProof::leader);
        while kept.len() > PROOFS_MAX {
            // The first may be that of the last entry, the newest is in use.
            kept.remove(1);
        }
        kept
    }

    /// Takes over the proofs that are stored now.
    pub(crate) fn replace(&self, stored: Vec<ElectionProof>) {
        *self.proofs() = stored.into_iter().map(Arc::new).collect();
    }

    /// The proof of the leadership that an entry came from.
    pub(crate) fn of_entry(&self, last: Option<LogId>) -> Option<ElectionProof> {
        let known = self.known(last?.leader_id);
        known.map(|proof| ElectionProof::clone(&proof))
    }

    /// True if a voter may believe that a candidate's log is newer than its own. The entries of a
    /// leadership that this node has entries of itself, or has a proof of, can be; of another one
    /// the candidate has to show that it ever was. That a voter of then is proven to lie now
    /// changes nothing: who has the entries of a liar's leadership may have to be elected to be rid
    /// of them.
    pub(crate) fn believes(
        &self,
        claimed: Option<LogId>,
        local: Option<LogId>,
        proof: Option<&ElectionProof>,
    ) -> bool {
        let Some(claimed) = claimed.map(|claimed| claimed.leader_id) else {
            return true;
        };
        let local = local.map(|local| local.leader_id);
        // The entries of the bootstrap have no leader.
        if Some(claimed) <= local || claimed == LeaderId::default() {
            return true;
        }
        let (sets, electorate) = (self.voters.electing(), &*self.voters.electorate);
        let was_valid = |proof: &ElectionProof| proof.was_valid(&sets, electorate);
        let shown = |proof: &ElectionProof| proof.leader() == claimed && was_valid(proof);
        self.known(claimed).is_some() || proof.is_some_and(shown)
    }

    /// Signs the vote for a leader that stood for election with this log. A second candidacy of the
    /// same leader with another log gets no signature.
    pub(crate) fn sign(
        &self,
        leader: LeaderId,
        last_log_id: Option<LogId>,
    ) -> Option<SignatureBytes> {
        let mut signed = self.signed.lock().expect("no code panics with this lock");
        match *signed {
            Some(last) if last.leader == leader && last.last_log_id == last_log_id => {
                return Some(last.signature);
            }
            Some(last) if last.leader >= leader => return None,
            _ => {}
        }
        let statement = ElectionProof {
            term: leader.term,
            candidate: leader.node_id,
            last_log_id,
            votes: Vec::new(),
        };
        let electorate = &self.voters.electorate;
        let statement = statement.statement(&electorate.chain_id(), self.node_id);
        let signature = SignatureBytes(electorate.sign(&statement));
        *signed = Some(SignedStatement {
            leader,
            last_log_id,
            signature,
        });
        Some(signature)
    }
}
