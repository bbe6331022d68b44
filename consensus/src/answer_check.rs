//! The check of another node's answer before openraft sees it. openraft believes answers in every
//! field.

use std::sync::Arc;

use openraft::raft::{VoteRequest, VoteResponse};

use crate::NodeId;
use crate::election::Candidacy;
use crate::election::{SignatureBytes, Voters};
use crate::message::{AppendRequest, AppendResponse};
use crate::types::{LogId, Vote};

/// The number of terms by which a candidate may be ahead by its own word. A node that is cut off
/// stands for election every few seconds, so it needs a year for so many; a liar would need a
/// message each millisecond for 30 years to use all terms up in such steps. The elections that a
/// node missed, with a liar in each, may be more terms than that: it believes a leader's proof, and
/// refusals of more voters than can lie ([`Candidacy::believed_refusal`]), whatever the term.
pub(crate) const TERMS_AHEAD_MAX: u64 = 1 << 24;

/// The number of terms by which this node raises its term for another node's answer. An answer may
/// name more: a liar can have raised one voter's term again and again while that voter heard no
/// other. This node then comes nearer with each answer, until the voter can follow it; so no voter
/// is locked out. It is less than [`TERMS_AHEAD_MAX`] by the terms of some elections, so that the
/// others take this node's candidacies after such a step.
pub(crate) const TERMS_ADOPTED_MAX: u64 = TERMS_AHEAD_MAX - (1 << 10);

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum AnswerError {
    #[error("a vote from a node that does not vote: {0}")]
    NoVoter(Vote),
    #[error("an impossible vote: {0}")]
    Vote(Vote),
    #[error("a vote without its signature")]
    Signature,
    #[error("entries that were not sent: {0:?}")]
    Entries(Option<LogId>),
    #[error("a higher vote again and again, while the others confirm this leader: {0}")]
    Again(Vote),
    #[error("a conflict before the beginning of the log")]
    Conflict,
}

/// Checks the answers of one node.
pub(crate) struct AnswerCheck<'a> {
    pub node_id: NodeId,
    pub target: NodeId,
    pub voters: &'a Arc<Voters>,
}

impl AnswerCheck<'_> {
    /// A vote that is higher than the one that was sent, by [`TERMS_ADOPTED_MAX`] terms at most.
    pub(crate) fn higher_vote(&self, vote: Vote, sent: &Vote) -> Result<Vote, AnswerError> {
        let local = self.voters.local_vote().leader_id.term;
        let highest = local
            .max(sent.leader_id.term)
            .saturating_add(TERMS_ADOPTED_MAX);
        let mut newer = self.newer_vote(vote, sent)?;
        newer.leader_id.term = newer.leader_id.term.min(highest);
        Ok(newer)
    }

    /// A vote that is later than the one that was sent, as openraft may have it: uncommitted, as an
    /// answer proves no leadership. Only a voter can depose this node, of Raft's log or of the
    /// ledger: one of the ledger may have stood for election by an entry that is in its log alone.
    /// What an observer says is an error of that observer.
    fn newer_vote(&self, vote: Vote, sent: &Vote) -> Result<Vote, AnswerError> {
        if !self.voters.is_voter(self.target) {
            return Err(AnswerError::NoVoter(vote));
        }
        let mut leader_id = vote.leader_id;
        // A later vote for this node is one that it does not know of, and must not begin with.
        if leader_id <= sent.leader_id || leader_id.node_id == self.node_id {
            return Err(AnswerError::Vote(vote));
        }
        if !self.voters.is_voter(leader_id.node_id) {
            // The term is what matters. It may be of a node that this one does not know yet.
            leader_id.node_id = self.target;
            leader_id.term = leader_id.term.max(sent.leader_id.term.saturating_add(1));
        }
        Ok(Vote {
            leader_id,
            committed: false,
        })
    }

    /// The answer to a request for a vote. A granted vote counts when its signature is added to the
    /// candidacy. A refusal may say that the other node's log is newer, which nothing proves: then
    /// this node waits for at most one election timeout more before it stands again. Without that,
    /// a node that can't win might stand in each term at the same time as one that can. The later
    /// vote in a refusal has any term: the candidacy says which it believes.
    pub(crate) fn vote(
        &self,
        response: VoteResponse<NodeId>,
        signature: Option<SignatureBytes>,
        request: &VoteRequest<NodeId>,
        candidacy: &Candidacy,
    ) -> Result<VoteResponse<NodeId>, AnswerError> {
        let leader = request.vote.leader_id;
        if !self.voters.is_voter(self.target) {
            return Err(AnswerError::NoVoter(response.vote));
        }
        if response.vote_granted {
            let signature = signature.ok_or(AnswerError::Signature)?;
            if response.vote != request.vote || !candidacy.add(leader, self.target, &signature) {
                return Err(AnswerError::Signature);
            }
            return Ok(VoteResponse::new(request.vote, None, true));
        }
        let vote = if response.vote.leader_id <= leader {
            // A refusal because of the log, or of a leader that is alive: no later vote.
            Vote::default()
        } else {
            self.newer_vote(response.vote, &request.vote)?
        };
        Ok(VoteResponse::new(vote, response.last_log_id, false))
    }

    /// The answer to an append or a heartbeat.
    pub(crate) fn append(
        &self,
        response: AppendResponse,
        request: &AppendRequest,
    ) -> Result<AppendResponse, AnswerError> {
        match response {
            AppendResponse::Success => Ok(response),
            AppendResponse::PartialSuccess(matched) => {
                let sent =
                    |matched: &LogId| request.entries.iter().any(|entry| entry.log_id == *matched);
                if matched.as_ref().is_some_and(sent) {
                    return Ok(response);
                }
                Err(AnswerError::Entries(matched))
            }
            AppendResponse::Conflict if request.prev_log_id.is_some() => Ok(response),
            AppendResponse::Conflict => Err(AnswerError::Conflict),
            AppendResponse::HigherVote(vote) => {
                let vote = self.higher_vote(vote, &request.vote)?;
                Ok(AppendResponse::HigherVote(vote))
            }
        }
    }
}
