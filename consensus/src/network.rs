//! Our [`Transport`] as openraft's network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
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

use crate::codec::{self, AppendRequest, AppendResponse, ControlRequest, ControlResponse};
use crate::config::Config;
use crate::error::TransportError;
use crate::io::Guarded;
use crate::log::LogStore;
use crate::machine::StateMachine;
use crate::raft::{LogId, NodeId, TypeConfig, Vote};
use crate::snapshot::{Pace, SendError, Sender};
use crate::transport::{Lane, Transport};

/// Between two attempts to reach a node that cannot be reached.
const RETRY: Duration = Duration::from_millis(200);

type CallError = RPCError<NodeId, EmptyNode, RaftError<NodeId>>;

/// Makes the clients of all other nodes.
#[derive(Clone)]
pub(crate) struct Network {
    pub transport: Arc<dyn Transport>,
    pub log: LogStore,
    pub config: Arc<Config>,
    pub machine: Arc<dyn StateMachine>,
    pub heard: Arc<Heard>,
    pub pace: Arc<Pace>,
}

/// When each other node last answered this one as its leader.
#[derive(Default)]
pub(crate) struct Heard(Mutex<BTreeMap<NodeId, Instant>>);

impl Heard {
    fn note(&self, node: NodeId) {
        self.lock().insert(node, Instant::now());
    }

    pub(crate) fn within(&self, node: NodeId, time: Duration) -> bool {
        self.lock()
            .get(&node)
            .is_some_and(|at| at.elapsed() <= time)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        self.0
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> Peer {
        Peer {
            target,
            network: self.clone(),
            pending: None,
        }
    }
}

/// The client of one other node.
pub(crate) struct Peer {
    target: NodeId,
    network: Network,
    pending: Option<Pending>,
}

/// An append that is on its way. openraft gives up after a heartbeat's time and asks again, but a
/// large append on a slow link needs longer: it goes on, and the next request for the same entries
/// waits for it instead of sending them once more.
struct Pending {
    prev: Option<LogId>,
    last: LogId,
    answer: oneshot::Receiver<Result<Bytes, TransportError>>,
    _task: Guarded,
}

impl Pending {
    /// Whether what is on its way is (the beginning of) what is asked for now.
    fn serves(&self, request: &AppendRequest) -> bool {
        let last = request.entries.last().map(|entry| entry.log_id);
        self.prev == request.prev_log_id && last >= Some(self.last)
    }
}

impl Peer {
    async fn call(
        &self,
        lane: Lane,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let answer = self
            .network
            .transport
            .call(self.target, lane, request, timeout)
            .await;
        if answer.is_ok() {
            self.network.heard.note(self.target);
        }
        answer.map_err(|error| unreachable(&error))
    }

    async fn heartbeat(
        &self,
        request: &AppendRequest,
        timeout: Duration,
    ) -> Result<AppendResponse, CallError> {
        let request = codec::encode(&ControlRequest::Heartbeat {
            vote: request.vote,
            prev_log_id: request.prev_log_id,
            leader_commit: request.leader_commit,
        });
        let answer = self.call(Lane::Control, request.into(), timeout).await?;
        match codec::decode("answer", &answer) {
            Ok(ControlResponse::Heartbeat(response)) => Ok(response),
            _ => Err(self.unexpected()),
        }
    }

    fn begin(&self, request: &AppendRequest, last: LogId) -> Pending {
        let (sender, answer) = oneshot::channel();
        let (target, transport) = (self.target, self.network.transport.clone());
        let (bytes, time) = (
            codec::encode_append(request),
            self.network.config.timers.append,
        );
        let task = Guarded::spawn(async move {
            let answered = transport.call(target, Lane::Append, bytes, time).await;
            // If nobody waits any more, the session of this leader is over.
            let _ = sender.send(answered);
        });
        Pending {
            prev: request.prev_log_id,
            last,
            answer,
            _task: task,
        }
    }

    /// Sends entries, or waits for those that are on their way. The last is what was sent last.
    async fn entries(
        &mut self,
        request: &AppendRequest,
        last: LogId,
        timeout: Duration,
    ) -> Result<(AppendResponse, LogId), CallError> {
        let pending = match self.pending.take() {
            Some(pending) if pending.serves(request) => self.pending.insert(pending),
            _ => {
                let begun = self.begin(request, last);
                self.pending.insert(begun)
            }
        };
        let sent = pending.last;
        let answer = tokio::time::timeout(timeout, &mut pending.answer).await;
        let Ok(answer) = answer else {
            // Entries take long: the other node must not take this one for dead meanwhile.
            let beat = self.heartbeat(request, timeout).await?;
            let late = || unreachable(&TransportError::Timeout(self.target));
            return if beat.is_success() {
                Err(late())
            } else {
                Ok((beat, last))
            };
        };
        self.pending = None;
        let answer = answer.unwrap_or(Err(TransportError::Unreachable(self.target)));
        let answer = answer.map_err(|error| unreachable(&error))?;
        let response = codec::decode("answer", &answer).map_err(|_| self.unexpected())?;
        Ok((response, sent))
    }

    fn unexpected(&self) -> CallError {
        let reason = "an answer that is not understood".to_owned();
        unreachable(&TransportError::Refused {
            node: self.target,
            reason,
        })
    }
}

/// A node that is away is no news; openraft tries again several times a second.
fn tell_unsent(node: NodeId, error: &SendError) {
    if !matches!(error, SendError::Transport(TransportError::Unreachable(_))) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(node, error, "an image was not sent");
    }
}

/// openraft waits before it tries again.
fn unreachable<E: std::error::Error + 'static>(error: &E) -> CallError {
    RPCError::Unreachable(Unreachable::new(error))
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, CallError> {
        // The others may act on a commit only when this node's copy counts.
        if let Some(commit) = request.leader_commit {
            let durable = self.network.log.durable(commit.index).await;
            durable.map_err(|error| RPCError::Network(NetworkError::new(&*error)))?;
        }
        let Some(last) = request.entries.last().map(|entry| entry.log_id) else {
            return self.heartbeat(&request, option.soft_ttl()).await;
        };
        // Half of the time for the entries, the rest for a heartbeat if they are not through.
        let (response, sent) = self.entries(&request, last, option.hard_ttl() / 2).await?;
        if response.is_success() && sent != last {
            return Ok(AppendResponse::PartialSuccess(Some(sent)));
        }
        Ok(response)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, CallError> {
        let request = codec::encode(&ControlRequest::Vote(request));
        let answer = self
            .call(Lane::Control, request.into(), option.hard_ttl())
            .await?;
        match codec::decode("answer", &answer) {
            Ok(ControlResponse::Vote(response)) => Ok(response),
            _ => Err(self.unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig, Fatal<NodeId>>> {
        let Network {
            transport,
            config,
            machine,
            heard,
            pace,
            ..
        } = &self.network;
        let (meta, dir) = (snapshot.meta, *snapshot.snapshot);
        let sent = async {
            // Only an image that was made when the node started is not sealed yet.
            machine.seal_snapshot(&dir.data()).await?;
            let sender = Sender {
                transport: &**transport,
                to: self.target,
                config,
                pace,
            };
            let pulse = || heard.note(self.target);
            sender.send(vote, meta, dir, pulse).await
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sent => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => {
                    tell_unsent(self.target, &error);
                    Err(Unreachable::from(AnyError::new(&error)).into())
                }
            },
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}
