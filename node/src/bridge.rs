//! Carries consensus and the ledger's messages over the network, and brings in what others send.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_consensus::{Consensus, Lane as RaftLane, ServeError, Transport, TransportError};
use lamplighter_ledger::{
    AnnouncedValidators, Handle, Membership, PeerAnswer, PeerError, PeerGossip, PeerRequest, Peers,
};
use lamplighter_net::{Lane, NetError, Network, NodeKey, Service, ServiceError};
use lamplighter_store::Kv;
use lamplighter_types::{PublicKey, ValidatorSet, codec};
use tokio::sync::watch;

use crate::disk::Gate;
use crate::failure::Failures;
use crate::origin::{self, Introduction, Known, Refusals, StoreId};

/// For a question to another node: more than a big artifact range takes on a slow link.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// Knows who is who, and the network once it runs.
///
/// Network and consensus hold the bridge and the bridge holds them: [`Bridge::clear`] ends the
/// circle.
pub(crate) struct Bridge {
    parts: RwLock<Parts>,
    /// Closed while this node takes no part in consensus.
    gate: Gate,
    failures: Failures,
    pub refusals: Refusals,
}

/// What is set while the node starts, one after the other.
#[derive(Clone, Default)]
struct Parts {
    membership: Option<watch::Receiver<Membership>>,
    network: Option<Network>,
    consensus: Option<Consensus>,
    ledger: Option<Handle>,
    /// This node's data directory, and its store.
    origin: Option<(StoreId, Arc<dyn Kv>)>,
    later: Option<watch::Receiver<Option<AnnouncedValidators>>>,
}

impl Bridge {
    pub fn new(gate: Gate, failures: Failures) -> Arc<Self> {
        Arc::new(Self {
            parts: RwLock::default(),
            gate,
            failures,
            refusals: Refusals::default(),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        change(&mut self.parts.write().expect("nobody panics with the lock"));
    }

    fn get<T: Clone>(&self, part: impl FnOnce(&Parts) -> &Option<T>) -> Option<T> {
        part(&self.parts.read().expect("nobody panics with the lock")).clone()
    }

    pub fn set_ledger(&self, ledger: Handle) {
        self.change(|parts| {
            parts.membership = Some(ledger.watch_membership());
            parts.later = Some(ledger.watch_announced_validators());
            parts.ledger = Some(ledger);
        });
    }

    pub fn set_origin(&self, store: StoreId, kv: Arc<dyn Kv>) {
        self.change(|parts| parts.origin = Some((store, kv)));
    }

    pub fn set_network(&self, network: Network) {
        self.change(|parts| parts.network = Some(network));
    }

    pub fn set_consensus(&self, consensus: Consensus) {
        self.change(|parts| parts.consensus = Some(consensus));
    }

    /// Lets go of everything: the node has stopped.
    pub fn clear(&self) {
        self.change(|parts| *parts = Parts::default());
    }

    fn network(&self) -> Option<Network> {
        self.get(|parts| &parts.network)
    }

    fn ledger(&self) -> Option<Handle> {
        self.get(|parts| &parts.ledger)
    }

    /// Whom the chain names and, while it is behind, who is known to validate later on.
    fn find<T>(
        &self,
        on_chain: impl FnOnce(&Membership) -> Option<T>,
        later: impl FnOnce(&ValidatorSet) -> Option<T>,
    ) -> Option<T> {
        let parts = self.parts.read().expect("nobody panics with the lock");
        let found = on_chain(&parts.membership.as_ref()?.borrow());
        found.or_else(|| {
            let height = parts.ledger.as_ref()?.head().height;
            let known = parts.later.as_ref()?.borrow();
            let known = known.as_ref().filter(|known| height < known.height)?;
            later(&known.validators)
        })
    }

    fn key_of(&self, node: u64) -> Option<NodeKey> {
        let key = self.find(
            |known| known.key_of(node),
            |later| later.by_node(node).map(|validator| validator.key),
        )?;
        Some(NodeKey(key.0))
    }

    fn node_of(&self, key: NodeKey) -> Option<u64> {
        let key = PublicKey(key.0);
        self.find(
            |known| known.node_of(&key),
            |later| later.by_key(&key).map(|validator| validator.node),
        )
    }
}

#[async_trait]
impl Transport for Bridge {
    async fn call(
        &self,
        to: u64,
        lane: RaftLane,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        let (Some(network), Some(key)) = (self.network(), self.key_of(to)) else {
            return Err(TransportError::Unreachable(to));
        };
        if self.gate.is_closed() {
            return Err(TransportError::Unreachable(to));
        }
        network
            .request(key, raft_lane(lane), request, timeout)
            .await
            .map_err(|error| match error {
                NetError::Timeout { .. } => TransportError::Timeout(to),
                NetError::Service { .. } => TransportError::Refused {
                    node: to,
                    reason: error.to_string(),
                },
                _ => TransportError::Unreachable(to),
            })
    }
}

fn raft_lane(lane: RaftLane) -> Lane {
    match lane {
        RaftLane::Control => Lane::Control,
        RaftLane::Append => Lane::Append,
        RaftLane::Snapshot => Lane::Snapshot,
    }
}

#[async_trait]
impl Peers for Bridge {
    async fn request(&self, node: u64, request: PeerRequest) -> Result<PeerAnswer, PeerError> {
        let (Some(network), Some(key)) = (self.network(), self.key_of(node)) else {
            return Err(PeerError::Unreachable(node));
        };
        // What is fetched would be written.
        if self.gate.is_closed() && !matches!(request, PeerRequest::Submit(_)) {
            return Err(PeerError::Unreachable(node));
        }
        let lane = match request {
            PeerRequest::Submit(_) => Lane::Transactions,
            PeerRequest::Certificate { .. }
            | PeerRequest::Artifact(_)
            | PeerRequest::Validators => Lane::Sync,
        };
        let body = codec::encode(&request).into();
        let answer = network.request(key, lane, body, REQUEST_WITHIN).await;
        let bytes = answer.map_err(|error| PeerError::Refused {
            node,
            reason: error.to_string(),
        })?;
        codec::decode(&bytes).map_err(|_| PeerError::Unexpected(node))
    }

    fn broadcast(&self, notice: PeerGossip) {
        let Some(network) = self.network() else {
            return;
        };
        let body = Bytes::from(codec::encode(&notice));
        let connected = network.connected().borrow().clone();
        for key in connected {
            // What does not arrive is told again a second later.
            if let Err(error) = network.notify(key, Lane::Attestation, body.clone()) {
                tracing::debug!(%error, "a notice was not sent");
            }
        }
    }

    fn connected(&self) -> Vec<u64> {
        let Some(network) = self.network() else {
            return Vec::new();
        };
        let connected = network.connected().borrow().clone();
        connected
            .into_iter()
            .filter_map(|key| self.node_of(key))
            .collect()
    }
}

#[async_trait]
impl Service for Bridge {
    async fn request(&self, from: NodeKey, lane: Lane, body: Bytes) -> Result<Bytes, ServiceError> {
        let from = self
            .node_of(from)
            .ok_or_else(|| refused("no node of this ledger"))?;
        if self.gate.is_closed() && lane != Lane::Sync {
            return Err(refused("read-only, the disk is nearly full"));
        }
        match lane {
            Lane::Control => self.raft(from, RaftLane::Control, body).await,
            Lane::Append => self.raft(from, RaftLane::Append, body).await,
            Lane::Snapshot => self.raft(from, RaftLane::Snapshot, body).await,
            Lane::Transactions | Lane::Sync => {
                let ledger = self.ledger().ok_or_else(|| refused("starting"))?;
                let request: PeerRequest = codec::decode(&body).map_err(refused)?;
                let answer = ledger.serve(from, request).await.map_err(refused)?;
                Ok(codec::encode(&answer).into())
            }
            Lane::Attestation => Err(refused("attestations are told, not asked for")),
        }
    }

    fn greeting(&self) -> Bytes {
        let parts = self.parts.read().expect("nobody panics with the lock");
        let (Some((store, _)), Some(ledger)) = (&parts.origin, &parts.ledger) else {
            return Bytes::new();
        };
        let store = *store;
        match ledger.last_signed() {
            Ok(signed) => Introduction { store, signed }.encode(),
            Err(error) => {
                tracing::error!(%error, "what this node signed can't be read");
                Bytes::new()
            }
        }
    }

    async fn judge(&self, from: NodeKey, greeting: Bytes) -> Result<(), String> {
        let (_, kv) = self.get(|parts| &parts.origin).ok_or_else(not_now)?;
        let ledger = self.ledger().ok_or_else(not_now)?;
        let node = self.node_of(from);
        let judged = move || judge(from, node, &greeting, &*kv, &ledger);
        let judged = tokio::task::spawn_blocking(judged).await;
        judged.unwrap_or_else(|_| Err(not_now()))
    }

    fn refused(&self, by: NodeKey, reason: &str) {
        let Some(membership) = self.get(|parts| &parts.membership) else {
            return;
        };
        let validators = membership.borrow().named.validators.clone();
        self.refusals.note(&validators, PublicKey(by.0), reason);
    }

    async fn notify(&self, from: NodeKey, lane: Lane, body: Bytes) {
        let (Some(ledger), Some(from)) = (self.ledger(), self.node_of(from)) else {
            return;
        };
        if lane != Lane::Attestation || self.gate.is_closed() {
            return;
        }
        match codec::decode::<PeerGossip>(&body) {
            Ok(notice) => {
                if let Err(error) = ledger.handle_gossip(notice) {
                    tracing::error!(%error, from, "attestations could not be taken");
                }
            }
            Err(error) => tracing::warn!(%error, from, "a malformed notice"),
        }
    }
}

impl Bridge {
    /// Whoever is connected has taken this node: its hello came after it had judged ours.
    pub fn taken_by(&self, connected: &BTreeSet<NodeKey>) {
        let Some(membership) = self.get(|parts| &parts.membership) else {
            return;
        };
        let validators = membership.borrow().named.validators.clone();
        let keys: Vec<_> = connected.iter().map(|key| PublicKey(key.0)).collect();
        self.refusals.take_back(&validators, &keys);
    }
}

/// Why a hello can't be judged yet, or any more.
fn not_now() -> String {
    "this node is starting or stopping".to_owned()
}

/// Judges a peer by what is remembered of it.
fn judge(
    from: NodeKey,
    node: Option<u64>,
    greeting: &[u8],
    kv: &dyn Kv,
    ledger: &Handle,
) -> Result<(), String> {
    let key = PublicKey(from.0);
    let certified = ledger.newest_signed_by(&key);
    let certified = certified.map_err(|error| format!("this node can't judge: {error}"))?;
    let known = Known {
        key,
        node,
        certified,
    };
    origin::judge(kv, &known, greeting)
}

impl Bridge {
    async fn raft(&self, from: u64, lane: RaftLane, body: Bytes) -> Result<Bytes, ServiceError> {
        let consensus = self
            .get(|parts| &parts.consensus)
            .ok_or_else(|| refused("starting"))?;
        consensus
            .serve(from, lane, body)
            .await
            .map_err(|error: ServeError| {
                // A log or a snapshot that could not be written: no second try makes it good.
                if let ServeError::Failed(what) = &error {
                    self.failures.report(what);
                }
                refused(error)
            })
    }
}

fn refused(reason: impl std::fmt::Display) -> ServiceError {
    ServiceError::Failed(reason.to_string())
}
