//! The check of who sends a request, before anything in it is read further.

use std::sync::Arc;

use openraft::raft::{VoteRequest, VoteResponse};

use crate::NodeId;
use crate::answer_check::TERMS_AHEAD_MAX;
use crate::election::{ElectionProof, Elections, SignatureBytes, Standing};
use crate::error::ServeError;
use crate::log::LogStore;
use crate::message::ControlResponse;
use crate::snapshot::message::Manifest;
use crate::type_config::Raft;
use crate::types::{LeaderId, Vote};

/// A request of a leader that may be read further, or its answer.
pub(crate) enum LeaderStanding {
    Proven(Arc<ElectionProof>),
    /// This is the later vote.
    Stale(Vote),
    Unproven,
}

/// Checks candidates and leaders.
pub(crate) struct LeaderCheck {
    pub elections: Arc<Elections>,
    pub raft: Raft,
    pub log: LogStore,
}

fn invalid<T>(from: NodeId, reason: impl Into<String>) -> Result<T, ServeError> {
    Err(ServeError::Invalid {
        from,
        reason: reason.into(),
    })
}

impl LeaderCheck {
    /// Checks that the vote is the sender's own.
    fn check_vote(&self, from: NodeId, vote: &Vote, committed: bool) -> Result<(), ServeError> {
        if vote.leader_id.node_id != from
            || from == self.elections.node_id
            || vote.committed != committed
        {
            return invalid(from, format!("a vote that is not its own: {vote}"));
        }
        Ok(())
    }

    /// Answers a candidate of a believable term.
    pub(crate) async fn vote(
        &self,
        from: NodeId,
        request: VoteRequest<NodeId>,
        log_proof: Option<ElectionProof>,
    ) -> Result<ControlResponse, ServeError> {
        self.check_vote(from, &request.vote, false)?;
        let term = self.elections.voters.local_vote().leader_id.term;
        if request.vote.leader_id.term > term.saturating_add(TERMS_AHEAD_MAX) {
            return invalid(from, format!("a term far ahead: {}", request.vote));
        }
        if !self.elections.voters.may_stand(from) {
            return invalid(from, "the ledger does not name it as a voter");
        }
        let (leader, claimed) = (request.vote.leader_id, request.last_log_id);
        if claimed.is_some_and(|claimed| claimed.leader_id >= leader) {
            return invalid(from, "a log that is newer than its candidate");
        }
        let (proven, last) = (&self.elections.proven, self.log.last());
        if !proven.believes(claimed, last, log_proof.as_ref()) {
            tracing::warn!(from, ?claimed, "a candidate's log of an unproven term");
            return Ok(self.refused());
        }
        let response = self.raft.vote(request).await;
        let mut response = response.map_err(|_| ServeError::Stopped)?;
        // The vote is stored: only now it is signed.
        let signature = if response.vote_granted {
            proven.sign(leader, claimed)
        } else {
            None
        };
        response.vote_granted = signature.is_some();
        Ok(ControlResponse::Vote {
            response,
            signature,
        })
    }

    fn refused(&self) -> ControlResponse {
        let vote = self.elections.voters.local_vote();
        ControlResponse::Vote {
            response: VoteResponse::new(vote, self.log.last(), false),
            signature: None,
        }
    }

    /// Checks the leadership of a request. A new proof is stored before it counts. Its term may be
    /// any: voters of whom one at least is honest have stored it.
    pub(crate) async fn leader(
        &self,
        from: NodeId,
        vote: &Vote,
        proof: Option<ElectionProof>,
    ) -> Result<LeaderStanding, ServeError> {
        self.check_vote(from, vote, true)?;
        if !self.elections.voters.may_lead(from) {
            return invalid(from, "neither the ledger nor the log names it as a voter");
        }
        match self.elections.proven.check(vote, proof) {
            Standing::Stale(vote) => Ok(LeaderStanding::Stale(vote)),
            Standing::Unproven => Ok(LeaderStanding::Unproven),
            Standing::Proven(proof) => Ok(LeaderStanding::Proven(proof)),
            Standing::New(proof) => {
                let stored = self.elections.store(&proof).await;
                stored.map_err(|error| ServeError::Failed(error.to_string()))?;
                tracing::info!(leader = from, term = proof.term, "the leadership is proven");
                Ok(LeaderStanding::Proven(proof))
            }
        }
    }

    /// The signature of a voter that follows a leader, once its vote for it is stored.
    pub(crate) fn sign(&self, proof: &ElectionProof) -> Option<SignatureBytes> {
        let leader: LeaderId = proof.leader();
        let local = self.elections.voters.local_vote();
        let follows = local.committed && local.leader_id == leader;
        if !follows || !self.elections.voters.is_voter(self.elections.node_id) {
            return None;
        }
        self.elections.proven.sign(leader, proof.last_log_id)
    }
}

/// Checks what a leader says of its image; the contents are checked when they are here.
pub(crate) fn check_manifest(
    from: NodeId,
    manifest: &Manifest,
    proof: &ElectionProof,
) -> Result<(), ServeError> {
    let Some(last) = manifest.meta.last_log_id else {
        return invalid(from, "an image of nothing");
    };
    let membership = manifest.meta.last_membership.log_id();
    if !crate::append_check::fits(last, proof) || *membership > Some(last) {
        return invalid(from, format!("an image of {last} that is none of its log"));
    }
    Ok(())
}
