//! Our [`Transport`] as openraft's network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{AnyError, EmptyNode, Snapshot};
use tokio::time::Instant;

use crate::codec::{self, AppendRequest, AppendResponse, ControlRequest, ControlResponse};
use crate::config::Config;
use crate::error::TransportError;
use crate::log::LogStore;
use crate::raft::{NodeId, TypeConfig, Vote};
use crate::snapshot;
use crate::transport::{Lane, Transport};

/// Between two attempts to reach a node that cannot be reached.
const RETRY: Duration = Duration::from_millis(200);

type CallError = RPCError<NodeId, EmptyNode, RaftError<NodeId>>;

/// When other nodes last answered.
#[derive(Default)]
pub(crate) struct Peers(Mutex<BTreeMap<NodeId, Instant>>);

impl Peers {
    fn answered(&self, node: NodeId) {
        let mut peers = self
            .0
            .lock()
            .expect("no code panics while it holds this lock");
        peers.insert(node, Instant::now());
    }

    /// Whether the node answered within this time.
    pub(crate) fn is_live(&self, node: NodeId, within: Duration) -> bool {
        let peers = self
            .0
            .lock()
            .expect("no code panics while it holds this lock");
        peers
            .get(&node)
            .is_some_and(|last| last.elapsed() <= within)
    }
}

/// Makes the clients of all other nodes.
#[derive(Clone)]
pub(crate) struct Network {
    pub transport: Arc<dyn Transport>,
    pub log: LogStore,
    pub peers: Arc<Peers>,
    pub config: Arc<Config>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> Peer {
        Peer {
            target,
            network: self.clone(),
        }
    }
}

/// The client of one other node.
pub(crate) struct Peer {
    target: NodeId,
    network: Network,
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
        let answer = answer.map_err(|error| unreachable(&error))?;
        self.network.peers.answered(self.target);
        Ok(answer)
    }

    fn unexpected(&self) -> CallError {
        let reason = "an answer that is not understood".to_owned();
        unreachable(&TransportError::Refused {
            node: self.target,
            reason,
        })
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
        let request = codec::encode_append(&request);
        let answer = self.call(Lane::Append, request, option.hard_ttl()).await?;
        codec::decode("answer", &answer).map_err(|_| self.unexpected())
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
            transport, config, ..
        } = &self.network;
        let (meta, dir) = (snapshot.meta, *snapshot.snapshot);
        let sent = snapshot::send(&**transport, self.target, vote, meta, dir, config);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sent => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(Unreachable::from(AnyError::new(&error)).into()),
            },
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}
