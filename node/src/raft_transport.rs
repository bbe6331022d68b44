use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{RaftLane, Transport, TransportError};
use lamplighter_net::{Lane, NetError, WeakNetwork};

use crate::disk::ConsensusGate;
use crate::peer_directory::PeerDirectory;

/// Carries the requests of consensus over the network.
pub(crate) struct RaftTransport {
    pub network: WeakNetwork,
    pub directory: PeerDirectory,
    pub gate: ConsensusGate,
}

#[async_trait]
impl Transport for RaftTransport {
    async fn call(
        &self,
        to: u64,
        lane: RaftLane,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        let (Some(network), Some(key)) = (self.network.upgrade(), self.directory.key_of(to)) else {
            return Err(TransportError::Unreachable(to));
        };
        if self.gate.is_closed() {
            return Err(TransportError::Unreachable(to));
        }
        let lane = match lane {
            RaftLane::Control => Lane::Control,
            RaftLane::Append => Lane::Append,
            RaftLane::Snapshot => Lane::Snapshot,
        };
        let answer = network.request(key, lane, request, timeout).await;
        answer.map_err(|error| match error {
            NetError::Timeout { .. } => TransportError::Timeout(to),
            NetError::Service { .. } => TransportError::Refused {
                node: to,
                reason: error.to_string(),
            },
            _ => TransportError::Unreachable(to),
        })
    }
}
