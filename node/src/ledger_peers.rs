use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_ledger::{PeerAnswer, PeerError, PeerGossip, PeerRequest, Peers};
use lamplighter_net::{Lane, Network, WeakNetwork};
use lamplighter_types::codec;

use crate::disk::ConsensusGate;
use crate::peer_directory::PeerDirectory;

/// The timeout of a request: more than a large range of an artifact takes on a slow link.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries the ledger's messages over the network.
pub(crate) struct LedgerPeers {
    gate: ConsensusGate,
    /// Set once the network runs. The ledger is opened first: it tells the network who may connect.
    connection: OnceLock<(WeakNetwork, PeerDirectory)>,
}

impl LedgerPeers {
    /// Reaches no node until [`connect`](Self::connect).
    pub fn new(gate: ConsensusGate) -> Self {
        Self {
            gate,
            connection: OnceLock::new(),
        }
    }

    /// To be called once, when the network runs.
    pub fn connect(&self, network: &Network, directory: PeerDirectory) {
        let set = self.connection.set((network.downgrade(), directory));
        assert!(set.is_ok(), "a node starts one network");
    }

    fn network(&self) -> Option<(Network, &PeerDirectory)> {
        let (network, directory) = self.connection.get()?;
        Some((network.upgrade()?, directory))
    }
}

#[async_trait]
impl Peers for LedgerPeers {
    async fn request(&self, node: u64, request: PeerRequest) -> Result<PeerAnswer, PeerError> {
        let connection = self.network();
        let connection =
            connection.and_then(|(network, directory)| Some((network, directory.key_of(node)?)));
        let (network, key) = connection.ok_or(PeerError::Unreachable(node))?;
        // The answer to any other request would be written to the disk.
        if self.gate.is_closed() && !matches!(request, PeerRequest::Submit(_)) {
            return Err(PeerError::Unreachable(node));
        }
        let lane = match request {
            PeerRequest::Submit(_) => Lane::Transactions,
            PeerRequest::Certificate { .. }
            | PeerRequest::Artifact(_)
            | PeerRequest::Validators { .. }
            | PeerRequest::Time => Lane::Sync,
        };
        let body = codec::encode(&request).into();
        let answer = network.request(key, lane, body, REQUEST_TIMEOUT).await;
        let bytes = answer.map_err(|error| PeerError::Refused {
            node,
            reason: error.to_string(),
        })?;
        codec::decode(&bytes).map_err(|_| PeerError::Unexpected(node))
    }

    fn broadcast(&self, gossip: PeerGossip) {
        let Some((network, _)) = self.network() else {
            return;
        };
        let body = Bytes::from(codec::encode(&gossip));
        let connected = network.connected().borrow().clone();
        for key in connected {
            // The ledger repeats a second later what does not arrive.
            if let Err(error) = network.notify(key, Lane::Attestation, body.clone()) {
                tracing::debug!(%error, "a broadcast was not sent");
            }
        }
    }

    fn connected(&self) -> Vec<u64> {
        let Some((network, directory)) = self.network() else {
            return Vec::new();
        };
        let connected = network.connected().borrow().clone();
        connected
            .into_iter()
            .filter_map(|key| directory.node_of(key))
            .collect()
    }
}
