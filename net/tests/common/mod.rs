//! Nodes with real sockets on 127.0.0.1, and a peer written from the protocol's description.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod raw;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_net::{
    AllowList, AllowedPeer, Lane, NetConfig, NetError, NetLimits, Network, NodeKey, PeerStatus,
    Service, ServiceError,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

/// Longer than any step takes on a busy machine; only a failing test waits so long.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// More than any test sends before it reads.
const NOTIFIED_MAX: usize = 256;

pub const CHAIN: [u8; 32] = [7; 32];

/// Control and Append echo; Transactions and Snapshot wait until they are released, and echo;
/// Sync answers with as many bytes as the request's four bytes say; Attestation fails or panics.
pub struct TestService {
    /// The peer that is refused, and the reason.
    pub refuses: std::sync::Mutex<Option<(NodeKey, String)>>,
    /// The peers that refused this node, and their reasons.
    pub refused: mpsc::Sender<(NodeKey, String)>,
    pub released: Semaphore,
    pub notified: mpsc::Sender<(NodeKey, Lane, Bytes)>,
}

#[async_trait]
impl Service for TestService {
    async fn request(
        &self,
        _from: NodeKey,
        lane: Lane,
        body: Bytes,
    ) -> Result<Bytes, ServiceError> {
        match lane {
            Lane::Control | Lane::Append => Ok(body),
            Lane::Transactions | Lane::Snapshot => {
                let _released = self.released.acquire().await.unwrap();
                Ok(body)
            }
            Lane::Sync => {
                let bytes = u32::from_le_bytes(body[..].try_into().unwrap());
                Ok(vec![5; bytes as usize].into())
            }
            Lane::Attestation => match &body[..] {
                b"panic" => panic!("requested by the test"),
                _ => Err(ServiceError::Unavailable("not today".into())),
            },
        }
    }

    async fn notify(&self, from: NodeKey, lane: Lane, body: Bytes) {
        self.notified.try_send((from, lane, body)).unwrap();
    }

    fn greeting(&self) -> Bytes {
        Bytes::from_static(b"a test node")
    }

    async fn verify_greeting(&self, from: NodeKey, greeting: Bytes) -> Result<(), String> {
        // The raw peer sends an empty greeting.
        assert!(greeting.is_empty() || greeting == "a test node");
        match &*self.refuses.lock().unwrap() {
            Some((key, reason)) if *key == from => Err(reason.clone()),
            _ => Ok(()),
        }
    }

    fn on_refused(&self, by: NodeKey, reason: &str) {
        // Only the first ones are of interest.
        self.refused.try_send((by, reason.to_owned())).ok();
    }
}

pub struct Node {
    pub secret: [u8; 32],
    pub key: NodeKey,
    pub network: Network,
    pub peers: watch::Sender<AllowList>,
    pub service: Arc<TestService>,
    pub notified: mpsc::Receiver<(NodeKey, Lane, Bytes)>,
    pub refused: mpsc::Receiver<(NodeKey, String)>,
}

pub fn config(secret: [u8; 32]) -> NetConfig {
    NetConfig {
        secret: secret.into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        chain_id: CHAIN,
        protocol: 1,
        dials_all: false,
        limits: NetLimits::default(),
    }
}

/// Secrets in the order of their keys, so the first dials all others.
pub fn secrets(count: u8) -> Vec<[u8; 32]> {
    let mut secrets: Vec<[u8; 32]> = (1..=count).map(|seed| [seed; 32]).collect();
    secrets.sort_by_key(|secret| NodeKey::of_secret(secret).unwrap());
    secrets
}

pub async fn start(config: NetConfig) -> Node {
    let (notified_sender, notified) = mpsc::channel(NOTIFIED_MAX);
    let (refused_sender, refused) = mpsc::channel(NOTIFIED_MAX);
    let service = Arc::new(TestService {
        refuses: std::sync::Mutex::default(),
        refused: refused_sender,
        released: Semaphore::new(0),
        notified: notified_sender,
    });
    let (peers, list) = watch::channel(AllowList::default());
    let secret = *config.secret;
    let network = Network::start(config, list, service.clone()).await.unwrap();
    Node {
        secret,
        key: network.key(),
        network,
        peers,
        service,
        notified,
        refused,
    }
}

pub async fn start_many(count: u8) -> Vec<Node> {
    let mut nodes = Vec::new();
    for secret in secrets(count) {
        nodes.push(start(config(secret)).await);
    }
    let list = list(&nodes.iter().collect::<Vec<_>>());
    for node in &nodes {
        node.peers.send_replace(list.clone());
    }
    for node in &nodes {
        node.wait_for_peers(nodes.len() - 1).await;
    }
    nodes
}

/// Two connected nodes.
pub async fn pair() -> (Node, Node) {
    let mut nodes = start_many(2).await;
    let second = nodes.pop().unwrap();
    (nodes.pop().unwrap(), second)
}

pub fn list(nodes: &[&Node]) -> AllowList {
    AllowList(nodes.iter().map(|node| node.entry()).collect())
}

impl Node {
    pub fn entry(&self) -> AllowedPeer {
        AllowedPeer {
            key: self.key,
            address: Some(self.network.local_address().to_string()),
        }
    }

    pub async fn wait_for_peers(&self, count: usize) -> BTreeSet<NodeKey> {
        let mut connected = self.network.connected();
        let reached = connected.wait_for(|peers| peers.len() == count);
        match timeout(TIMEOUT, reached).await {
            Ok(peers) => peers.unwrap().clone(),
            Err(_) => panic!("{count} peers expected: {:?}", self.network.status()),
        }
    }

    pub fn status_of(&self, peer: &Node) -> PeerStatus {
        self.network.status()[&peer.key].clone()
    }

    pub async fn wait_for_error(&self, key: NodeKey, part: &str) {
        let error = || {
            self.network
                .status()
                .get(&key)
                .and_then(|peer| peer.last_error.clone())
        };
        let found = poll(|| error().is_some_and(|error| error.contains(part))).await;
        assert!(found, "{part:?} expected, not {:?}", error());
    }

    pub async fn ask(&self, to: &Node, lane: Lane, body: &[u8]) -> Result<Bytes, NetError> {
        let body = Bytes::copy_from_slice(body);
        self.network.request(to.key, lane, body, TIMEOUT).await
    }

    /// An echo in both directions, the proof that a link works.
    pub async fn check(&self, other: &Node) {
        assert_eq!(self.ask(other, Lane::Control, b"one").await.unwrap(), "one");
        assert_eq!(other.ask(self, Lane::Control, b"two").await.unwrap(), "two");
    }
}

/// Waits until a condition that has no signal of its own holds.
#[track_caller]
pub fn until(condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        assert!(
            poll(condition).await,
            "the condition at {caller} never held"
        )
    }
}

/// True if the condition holds within the timeout.
async fn poll(condition: impl Fn() -> bool) -> bool {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, polling).await.is_ok()
}
