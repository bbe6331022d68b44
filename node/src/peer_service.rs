use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{Consensus, RaftLane, ServeError};
use lamplighter_ledger::{Handle, PeerGossip, PeerRequest};
use lamplighter_net::{Lane, NodeKey, Service, ServiceError};
use lamplighter_store::Kv;
use lamplighter_types::{PublicKey, codec};

use crate::disk::ConsensusGate;
use crate::fatal_errors::FatalErrors;
use crate::peer_directory::PeerDirectory;
use crate::store_identity::{self, IdentityRefusals, NodeGreeting, PeerRecord, StoreId};

/// Passes the messages of other nodes to consensus and to the ledger.
pub(crate) struct PeerService {
    pub directory: PeerDirectory,
    pub ledger: Handle,
    /// The store of this node, which remembers the peers' stores, and its id.
    pub kv: Arc<dyn Kv>,
    pub store: StoreId,
    /// Closed while this node takes no part in consensus.
    pub gate: ConsensusGate,
    pub fatal_errors: FatalErrors,
    pub refusals: Arc<IdentityRefusals>,
    /// Set when consensus has started, which needs the network and with it this service.
    pub consensus: OnceLock<Consensus>,
}

impl PeerService {
    /// Before consensus has started.
    pub fn new(
        ledger: Handle,
        kv: Arc<dyn Kv>,
        store: StoreId,
        gate: ConsensusGate,
        fatal_errors: FatalErrors,
    ) -> Arc<Self> {
        Arc::new(Self {
            directory: PeerDirectory::new(&ledger),
            ledger,
            kv,
            store,
            gate,
            fatal_errors,
            refusals: Arc::default(),
            consensus: OnceLock::new(),
        })
    }
}

#[async_trait]
impl Service for PeerService {
    async fn request(&self, from: NodeKey, lane: Lane, body: Bytes) -> Result<Bytes, ServiceError> {
        let from = self
            .directory
            .node_of(from)
            .ok_or_else(|| failed("no node of this ledger"))?;
        if self.gate.is_closed() && lane != Lane::Sync {
            return Err(failed("read-only, the disk is nearly full"));
        }
        match lane {
            Lane::Control => self.serve_raft(from, RaftLane::Control, body).await,
            Lane::Append => self.serve_raft(from, RaftLane::Append, body).await,
            Lane::Snapshot => self.serve_raft(from, RaftLane::Snapshot, body).await,
            Lane::Transactions | Lane::Sync => {
                let request: PeerRequest = codec::decode(&body).map_err(failed)?;
                let answer = self.ledger.serve(from, request).await.map_err(failed)?;
                Ok(codec::encode(&answer).into())
            }
            Lane::Attestation => Err(failed("attestations are broadcast, not requested")),
        }
    }

    async fn notify(&self, from: NodeKey, lane: Lane, body: Bytes) {
        let Some(from) = self.directory.node_of(from) else {
            return;
        };
        if lane != Lane::Attestation || self.gate.is_closed() {
            return;
        }
        match codec::decode::<PeerGossip>(&body) {
            Ok(gossip) => {
                if let Err(error) = self.ledger.handle_gossip(gossip).await {
                    tracing::error!(%error, from, "attestations could not be taken");
                }
            }
            Err(error) => tracing::warn!(%error, from, "a malformed notice"),
        }
    }

    fn greeting(&self) -> Bytes {
        match self.ledger.last_signed() {
            Ok(signed) => NodeGreeting {
                store: self.store,
                signed,
            }
            .encode(),
            Err(error) => {
                tracing::error!(%error, "what this node signed can't be read");
                Bytes::new()
            }
        }
    }

    async fn verify_greeting(&self, from: NodeKey, greeting: Bytes) -> Result<(), String> {
        let (kv, ledger) = (self.kv.clone(), self.ledger.clone());
        let (key, node) = (PublicKey(from.0), self.directory.node_of(from));
        let verified = tokio::task::spawn_blocking(move || {
            let certified = ledger.newest_signed_by(&key);
            let certified = certified.map_err(|error| format!("this node can't judge: {error}"))?;
            let peer = PeerRecord {
                key,
                node,
                certified,
            };
            store_identity::verify_greeting(&*kv, &peer, &greeting)
        });
        let verified = verified.await;
        verified.unwrap_or_else(|_| Err("this node is stopping".to_owned()))
    }

    fn on_refused(&self, by: NodeKey, reason: &str) {
        let validators = self.directory.validators();
        self.refusals.record(&validators, PublicKey(by.0), reason);
    }
}

impl PeerService {
    async fn serve_raft(
        &self,
        from: u64,
        lane: RaftLane,
        body: Bytes,
    ) -> Result<Bytes, ServiceError> {
        let consensus = self.consensus.get().ok_or_else(|| failed("starting"))?;
        let answer = consensus.serve(from, lane, body).await;
        answer.map_err(|error| {
            // A log or a snapshot could not be written, which no retry repairs.
            if let ServeError::Failed(what) = &error {
                self.fatal_errors.report(what);
            }
            failed(error)
        })
    }
}

fn failed(reason: impl std::fmt::Display) -> ServiceError {
    ServiceError::Failed(reason.to_string())
}
