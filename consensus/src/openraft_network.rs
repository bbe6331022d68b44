//! The [`Transport`] trait as openraft's network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{AnyError, EmptyNode, Snapshot};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::answer_check::{AnswerCheck, AnswerError};
use crate::binding::bind;
use crate::codec;
use crate::config::ConsensusConfig;
use crate::election::{ElectionProof, Elections};
use crate::error::TransportError;
use crate::last_contact::LastContact;
use crate::log::LogStore;
use crate::message::{
    AppendAnswer, AppendBinding, AppendRequest, AppendResponse, ControlRequest, ControlResponse,
    encode_append,
};
use crate::snapshot::{SendError, SnapshotSender, SnapshotThrottle};
use crate::state_machine::StateMachine;
use crate::statement::SignedStatements;
use crate::transport::{RaftLane, Transport};
use crate::type_config::TypeConfig;
use crate::types::{LeaderId, LogId, NodeId, Vote};

/// The pause between two attempts to reach a node that cannot be reached.
const RETRY: Duration = Duration::from_millis(200);

type CallError = RPCError<NodeId, EmptyNode, RaftError<NodeId>>;

/// Creates the clients of the other nodes.
#[derive(Clone)]
pub(crate) struct OpenraftNetwork {
    pub transport: Arc<dyn Transport>,
    pub log: LogStore,
    pub config: Arc<ConsensusConfig>,
    pub machine: Arc<dyn StateMachine>,
    pub last_contact: Arc<LastContact>,
    pub throttle: Arc<SnapshotThrottle>,
    pub elections: Arc<Elections>,
    pub signed: Arc<SignedStatements>,
}

impl RaftNetworkFactory<TypeConfig> for OpenraftNetwork {
    type Network = PeerClient;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> PeerClient {
        PeerClient {
            target,
            network: self.clone(),
            pending: None,
        }
    }
}

/// The client of one other node.
pub(crate) struct PeerClient {
    target: NodeId,
    network: OpenraftNetwork,
    pending: Option<PendingAppend>,
}

/// An append that has no answer yet. openraft retries after a heartbeat's time, but a large append
/// on a slow link needs longer: it continues, and the next request for the same entries waits for
/// it instead of sending them once more.
struct PendingAppend {
    prev: Option<LogId>,
    last: LogId,
    answer: oneshot::Receiver<Result<Bytes, TransportError>>,
    _task: AbortOnDropHandle<()>,
}

impl PendingAppend {
    /// True if the pending entries are a prefix of the requested ones.
    fn covers(&self, request: &AppendRequest) -> bool {
        let last = request.entries.last().map(|entry| entry.log_id);
        self.prev == request.prev_log_id && last >= Some(self.last)
    }
}

impl PeerClient {
    async fn call(
        &self,
        lane: RaftLane,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let answer = self
            .network
            .transport
            .call(self.target, lane, request, timeout)
            .await;
        if answer.is_ok() {
            self.network.last_contact.record(self.target);
        }
        answer.map_err(|error| unreachable(&error))
    }

    fn check(&self) -> AnswerCheck<'_> {
        AnswerCheck {
            node_id: self.network.config.node_id,
            target: self.target,
            voters: &self.network.elections.voters,
        }
    }

    /// The proof to send, unless the other node has accepted this leadership.
    fn proof(&self, leader: LeaderId) -> Option<ElectionProof> {
        let elections = &self.network.elections;
        if elections.gate.is_accepted(leader, self.target) {
            return None;
        }
        elections.candidacy.proof(leader)
    }

    /// The vote for which this node ends its leadership, if it does for the one that was answered.
    ///
    /// It is of one term more: the other node may stand for election again at any moment, and if
    /// that is at the same time as this node and with a higher id, it can't follow this node.
    fn deposed_by(&self, leader: LeaderId, vote: Vote) -> Result<Vote, AnswerError> {
        let OpenraftNetwork {
            elections, config, ..
        } = &self.network;
        if !elections.may_depose(leader, self.target, config.timers.election_max) {
            return Err(AnswerError::Again(vote));
        }
        let term = vote.leader_id.term.saturating_add(1);
        Ok(Vote::new(term, vote.leader_id.node_id))
    }

    /// Checks the answer to an append or a heartbeat, and records what it proves.
    fn accept(
        &self,
        response: AppendResponse,
        request: &AppendRequest,
        asked: Instant,
    ) -> Result<AppendResponse, AnswerError> {
        let response = self.check().append(response, request)?;
        let (leader, gate) = (request.vote.leader_id, &self.network.elections.gate);
        match response {
            AppendResponse::HigherVote(vote) => {
                let vote = self.deposed_by(leader, vote)?;
                return Ok(AppendResponse::HigherVote(vote));
            }
            AppendResponse::Conflict => {
                gate.record_answer(leader, self.target, asked);
                gate.forget(leader, self.target);
            }
            _ => gate.record_answer(leader, self.target, asked),
        }
        Ok(response)
    }

    async fn heartbeat(
        &self,
        request: &AppendRequest,
        timeout: Duration,
    ) -> Result<AppendResponse, CallError> {
        let (leader, elections) = (request.vote.leader_id, &self.network.elections);
        // Once more with the proof, if the other node has lost it.
        for _ in 0..2 {
            let asked = Instant::now();
            let message = codec::encode(&ControlRequest::Heartbeat {
                vote: request.vote,
                prev_log_id: request.prev_log_id,
                leader_commit: request.leader_commit,
                proof: self.proof(leader),
            });
            let answer = self.call(RaftLane::Control, message.into(), timeout);
            match codec::decode("answer", &answer.await?) {
                Ok(ControlResponse::Heartbeat(AppendAnswer::Response {
                    response,
                    signature,
                })) => {
                    if let Some(signature) = signature {
                        elections.candidacy.add(leader, self.target, &signature);
                    }
                    let accepted = self.accept(response, request, asked);
                    return accepted.map_err(|error| self.refuse(&error));
                }
                Ok(ControlResponse::Heartbeat(AppendAnswer::Unproven)) => {
                    elections.gate.forget_answer(leader, self.target);
                }
                _ => return Err(self.unexpected()),
            }
        }
        Err(self.unexpected())
    }

    fn send_append(
        &self,
        request: &AppendRequest,
        last: LogId,
        binding: AppendBinding,
    ) -> PendingAppend {
        let (sender, answer) = oneshot::channel();
        let (target, transport) = (self.target, self.network.transport.clone());
        let proof = self.proof(request.vote.leader_id);
        let bytes = encode_append(request, proof.as_ref(), Some(binding));
        let time = self.network.config.timers.append;
        let task = tokio::spawn(async move {
            let answer = transport.call(target, RaftLane::Append, bytes, time).await;
            // If no request waits any more, this node leads no longer.
            let _ = sender.send(answer);
        });
        PendingAppend {
            prev: request.prev_log_id,
            last,
            answer,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Sends entries, or waits for pending ones; returns the last entry that was sent.
    async fn append(
        &mut self,
        request: &AppendRequest,
        last: LogId,
        timeout: Duration,
    ) -> Result<(AppendResponse, LogId), CallError> {
        let pending = match self.pending.take() {
            Some(pending) if pending.covers(request) => self.pending.insert(pending),
            _ => {
                let electorate = &*self.network.elections.voters.electorate;
                let binding = bind(
                    &self.network.log,
                    electorate,
                    &self.network.signed,
                    request,
                    last,
                )
                .await;
                let binding = binding.ok_or_else(|| {
                    RPCError::Network(NetworkError::new(&AnyError::error("purged meanwhile")))
                })?;
                let started = self.send_append(request, last, binding);
                self.pending.insert(started)
            }
        };
        let (sent, asked) = (pending.last, Instant::now());
        let answer = tokio::time::timeout(timeout, &mut pending.answer).await;
        let Ok(answer) = answer else {
            // A slow append.
            let late = TransportError::Timeout(self.target);
            return self.beat_instead(request, last, timeout, &late).await;
        };
        self.pending = None;
        let answer = answer.unwrap_or(Err(TransportError::Unreachable(self.target)));
        if let Err(refused @ TransportError::Refused { .. }) = &answer {
            return self.beat_instead(request, last, timeout, refused).await;
        }
        let answer = answer.map_err(|error| unreachable(&error))?;
        match codec::decode("answer", &answer) {
            Ok(AppendAnswer::Response { response, .. }) => {
                let accepted = self.accept(response, request, asked);
                let accepted = accepted.map_err(|error| self.refuse(&error))?;
                Ok((accepted, sent))
            }
            Ok(AppendAnswer::Unproven) => {
                let leader = request.vote.leader_id;
                let gate = &self.network.elections.gate;
                gate.forget_answer(leader, self.target);
                self.heartbeat(request, timeout).await?;
                Err(unreachable(&TransportError::Timeout(self.target)))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Sends a heartbeat to a node that takes no entries now, so that it does not stand for
    /// election meanwhile.
    ///
    /// # Errors
    /// The cause why it takes none, unless it answers that this node does not lead.
    async fn beat_instead(
        &self,
        request: &AppendRequest,
        last: LogId,
        timeout: Duration,
        cause: &TransportError,
    ) -> Result<(AppendResponse, LogId), CallError> {
        let beat = self.heartbeat(request, timeout).await?;
        if beat.is_success() {
            Err(unreachable(cause))
        } else {
            Ok((beat, last))
        }
    }

    /// Waits until a quorum holds what the other node just acknowledged; openraft counts a copy
    /// only then.
    async fn gated(
        &self,
        response: AppendResponse,
        leader: LeaderId,
        within: Duration,
    ) -> Result<AppendResponse, CallError> {
        let AppendResponse::PartialSuccess(Some(last)) = response else {
            return Ok(response);
        };
        let elections = &self.network.elections;
        elections.gate.record_copy(leader, self.target, last);
        if elections.voters.votes_in_log(self.target)
            && !elections.gate.holds(leader, last, within).await
        {
            return Err(unreachable(&TransportError::Timeout(self.target)));
        }
        Ok(response)
    }

    fn refuse(&self, error: &AnswerError) -> CallError {
        // It may come with each heartbeat, and the first one deposed this node.
        if matches!(error, AnswerError::Again(_)) {
            tracing::debug!(node = self.target, %error, "an answer is ignored");
            return unreachable(error);
        }
        tracing::error!(
            node = self.target,
            error = error as &dyn std::error::Error,
            "an answer that no correct node gives"
        );
        unreachable(error)
    }

    fn unexpected(&self) -> CallError {
        let reason = "an answer that is not understood".to_owned();
        unreachable(&TransportError::Refused {
            node: self.target,
            reason,
        })
    }
}

/// Logs an unsent snapshot, unless the node is unreachable: openraft tries several times a second.
fn log_unsent(node: NodeId, error: &SendError) {
    if !matches!(error, SendError::Transport(TransportError::Unreachable(_))) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(node, error, "an image was not sent");
    }
}

/// An error after which openraft waits before it tries again.
fn unreachable<E: std::error::Error + 'static>(error: &E) -> CallError {
    RPCError::Unreachable(Unreachable::new(error))
}

impl RaftNetwork<TypeConfig> for PeerClient {
    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, CallError> {
        // The others may act on a commit only when this node's copy is durable.
        if let Some(commit) = request.leader_commit {
            let durable = self.network.log.durable(commit.index).await;
            durable.map_err(|error| RPCError::Network(NetworkError::new(&*error)))?;
        }
        let Some(last) = request.entries.last().map(|entry| entry.log_id) else {
            return self.heartbeat(&request, option.soft_ttl()).await;
        };
        // Half of the time is for the entries, the rest for a heartbeat if they take longer.
        let end = Instant::now() + option.hard_ttl() * 7 / 8;
        let (response, sent) = self.append(&request, last, option.hard_ttl() / 2).await?;
        let response = match response {
            AppendResponse::Success => AppendResponse::PartialSuccess(Some(sent)),
            other => other,
        };
        let within = end.saturating_duration_since(Instant::now());
        self.gated(response, request.vote.leader_id, within).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, CallError> {
        let end = Instant::now() + option.hard_ttl();
        let elections = &self.network.elections;
        let message = codec::encode(&ControlRequest::Vote {
            request: request.clone(),
            log_proof: elections.proven.of_entry(request.last_log_id),
        });
        let answer = self.call(RaftLane::Control, message.into(), option.hard_ttl());
        let Ok(ControlResponse::Vote {
            response,
            signature,
        }) = codec::decode("answer", &answer.await?)
        else {
            return Err(self.unexpected());
        };
        let candidacy = &elections.candidacy;
        let response = self.check().vote(response, signature, &request, candidacy);
        let response = response.map_err(|error| self.refuse(&error))?;
        if response.vote.leader_id > request.vote.leader_id {
            let newer = response.vote.leader_id;
            candidacy.refuse(request.vote.leader_id, self.target, newer);
        }
        // openraft counts the votes when there is a proof. A refusal waits too: openraft would end
        // the candidacy for a higher vote, which nothing proves, before the others have answered.
        let wait = (end - option.hard_ttl() / 8).saturating_duration_since(Instant::now());
        let elected = elections.elected(request.vote.leader_id);
        let elected = match tokio::time::timeout(wait, elected).await {
            Ok(elected) => elected.map_err(|error| RPCError::Network(NetworkError::new(&error)))?,
            Err(_) => false,
        };
        if elected != response.vote_granted {
            return Err(self.unexpected());
        }
        if elected || response.vote.leader_id <= request.vote.leader_id {
            return Ok(response);
        }
        let believed = candidacy.believed_refusal();
        let vote = believed.map_or_else(Vote::default, |leader_id| Vote {
            leader_id,
            committed: false,
        });
        Ok(VoteResponse::new(vote, response.last_log_id, false))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig, Fatal<NodeId>>> {
        // openraft sends an image once the other node lacks the entries before those of an append:
        // an append that has no answer yet is one to a log that is gone.
        self.pending = None;
        let OpenraftNetwork {
            transport,
            config,
            machine,
            last_contact,
            throttle,
            elections,
            ..
        } = &self.network;
        let (meta, dir) = (snapshot.meta, *snapshot.snapshot);
        let sent = async {
            // A snapshot that was made before the node started is not sealed yet.
            machine.seal_snapshot(&dir.data()).await?;
            let sender = SnapshotSender {
                transport: &**transport,
                to: self.target,
                config,
                throttle,
                proof: elections.candidacy.proof(vote.leader_id),
            };
            let on_progress = || last_contact.record(self.target);
            sender.send(vote, meta, dir, on_progress).await
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sent => match sent {
                Ok(answered) if answered.leader_id <= vote.leader_id => {
                    Ok(SnapshotResponse::new(vote))
                }
                Ok(answered) => {
                    let higher = self.check().higher_vote(answered, &vote);
                    let higher = higher.and_then(|higher| self.deposed_by(vote.leader_id, higher));
                    let higher = higher.map_err(|error| Unreachable::new(&error))?;
                    Ok(SnapshotResponse::new(higher))
                }
                Err(error) => {
                    log_unsent(self.target, &error);
                    Err(Unreachable::from(AnyError::new(&error)).into())
                }
            },
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}

#[cfg(test)]
mod tests;
