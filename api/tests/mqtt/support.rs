//! An edge on a ledger of one node in memory, with a few accounts and devices.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_api::Tokens;
use lamplighter_api::mqtt::{Counters, Edge, Listen, MqttConfig};
use lamplighter_consensus::{Consensus, RaftLane, Transport, TransportError};
use lamplighter_ledger::{
    Clock, DiskFull, Handle, Identity as NodeIdentity, Ledger, PeerAnswer, PeerError, PeerGossip,
    PeerRequest, Peers, SystemClock, Ticket, Verdict,
};
use lamplighter_tls::Identity;
use lamplighter_types::login::Audience;
use lamplighter_types::{
    Action, DevicesAction, Encoding, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Hash, Id,
    KeyPurpose, NewDevice, Outcome, Policies, PublicKey, Role, Scope, SecretKey, SignedTransaction,
    Tag, Transaction, UsersAction, Validator, ValidatorSet,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::store::ReceiptsStore;

/// Longest that any step of a test may take; only a failing test gets there.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// Life of a token.
const TOKEN_MS: u64 = 15 * 60 * 1000;

/// The same for all ledgers of a process, so that a token of one is valid at each.
static GENESIS: LazyLock<Genesis> = LazyLock::new(genesis);

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// The secret key of an account: its name, padded.
pub fn secret(name: &str) -> SecretKey {
    let mut seed = [7; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    SecretKey::from_seed(seed)
}

pub fn identity(name: &str) -> Identity {
    Identity::new(&secret(name), "localhost").unwrap()
}

pub fn public_key(name: &str) -> PublicKey {
    secret(name).public()
}

/// The sessions of all edges of a process, so that a token of one is valid at each.
static TOKENS: LazyLock<Tokens> = LazyLock::new(tokens_after_restart);

pub fn tokens() -> Tokens {
    TOKENS.clone()
}

/// The tokens of a node that has begun anew.
pub fn tokens_after_restart() -> Tokens {
    Tokens::new(&secret("node"), GENESIS.chain_id(), 1)
}

pub fn token(name: &str) -> String {
    token_of(name, now_ms())
}

/// A token that was issued at some time.
pub fn token_of(name: &str, issued_ms: u64) -> String {
    let (account, key) = (id(name), public_key(name));
    let issued = tokens().issue(account, key, Audience::Mqtt, None, issued_ms);
    issued.unwrap().token
}

/// A token that expires within a moment.
pub fn expiring_token(name: &str) -> String {
    token_of(name, now_ms() + 300 - TOKEN_MS)
}

fn genesis() -> Genesis {
    let account = |name: &str, roles: &[(Role, &str)]| {
        let grant = |(role, scope): &(Role, &str)| Grant::founding(*role, scope.parse().unwrap());
        GenesisAccount {
            account: id(name),
            name: name.to_owned(),
            key: public_key(name),
            grants: roles.iter().map(grant).collect(),
        }
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: now_ms(),
        validators: ValidatorSet {
            validators: vec![Validator {
                node: 1,
                account: id("node-1"),
                key: public_key("node"),
                address: "127.0.0.1:9001".into(),
            }],
        },
        organization: id("city"),
        accounts: vec![
            account("admin", &[(Role::Administrator, ""), (Role::Operator, "")]),
            account(
                "ann",
                &[(Role::Operator, "north"), (Role::Operator, "south")],
            ),
            account("eve", &[]),
            account("root", &[(Role::Operator, "")]),
        ],
        policies: Policies::default(),
    }
}

/// A network without other nodes.
struct NoPeers;

#[async_trait]
impl Transport for NoPeers {
    async fn call(
        &self,
        to: u64,
        _: RaftLane,
        _: Bytes,
        _: Duration,
    ) -> Result<Bytes, TransportError> {
        Err(TransportError::Unreachable(to))
    }
}

#[async_trait]
impl Peers for NoPeers {
    async fn request(&self, node: u64, _: PeerRequest) -> Result<PeerAnswer, PeerError> {
        Err(PeerError::Unreachable(node))
    }

    fn broadcast(&self, _: PeerGossip) {}

    fn connected(&self) -> Vec<u64> {
        Vec::new()
    }
}

/// An edge with its ledger. The accounts are the gateways `gw-1` and `gw-2`, and the users `ann`
/// (districts north and south), `root` (all districts) and `eve` (no role); the devices are
/// `lamp-1` (north, at `gw-1`), `lamp-2` (harbour, at `gw-2`), `lamp-3` (south/quay), `lamp-4` (the
/// whole city) and `lamp-9` (south).
pub struct World {
    edge: Option<Edge>,
    counters: Arc<Counters>,
    pub handle: Handle,
    pub store: Arc<ReceiptsStore>,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    sequences: Mutex<BTreeMap<String, u64>>,
    _consensus: Consensus,
    stop: CancellationToken,
    _dir: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn world() -> World {
    world_with(|_| {}).await
}

pub async fn world_with(change: impl FnOnce(&mut MqttConfig)) -> World {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = |tls| Listen {
        address: local,
        tls,
    };
    let mut config = MqttConfig {
        listen: vec![listen(false), listen(true)],
        identity: Some(identity("node")),
        connections_max: 1000,
        ..MqttConfig::default()
    };
    change(&mut config);
    let dir = TempDir::new().unwrap();
    let stop = CancellationToken::new();
    let store = Arc::new(ReceiptsStore::new());
    let (handle, consensus) = ledger(&dir, &store, &stop).await;
    handle.wait_certified(1, TIMEOUT).await.unwrap();
    let edge = Edge::start(config, handle.clone(), tokens()).unwrap();
    let (plain, tls) = (edge.addresses()[0], edge.addresses()[1]);
    let world = World {
        counters: edge.counters(),
        edge: Some(edge),
        handle,
        store,
        plain,
        tls,
        sequences: Mutex::default(),
        _consensus: consensus,
        stop,
        _dir: dir,
    };
    for gateway in ["gw-1", "gw-2"] {
        world.act(register_gateway(gateway)).await;
    }
    for (device, district, gateway) in [
        ("lamp-1", "north", Some("gw-1")),
        ("lamp-2", "harbour", Some("gw-2")),
        ("lamp-3", "south/quay", None),
        ("lamp-4", "", None),
        ("lamp-9", "south", None),
    ] {
        let devices = vec![new_device(device, district, gateway)];
        world
            .act(Action::Devices(DevicesAction::Register { devices }))
            .await;
    }
    world.certified().await;
    world
}

async fn ledger(
    dir: &TempDir,
    store: &Arc<ReceiptsStore>,
    stop: &CancellationToken,
) -> (Handle, Consensus) {
    let (kv, network) = (Arc::clone(store), Arc::new(NoPeers));
    let identity = NodeIdentity {
        account: id("node-1"),
        secret: secret("node"),
    };
    let mut config = lamplighter_ledger::LedgerConfig::new(1);
    config.heartbeat_every = Duration::from_millis(200);
    let artifacts = dir.path().join("artifacts");
    let opened = Ledger::open(
        kv.clone(),
        GENESIS.clone(),
        config,
        identity,
        &artifacts,
        network.clone(),
        Arc::new(SystemClock),
    );
    let ledger = opened.await.unwrap();
    let mut settings = lamplighter_consensus::ConsensusConfig::new(1, dir.path().join("snapshots"));
    settings.timers.heartbeat = Duration::from_millis(50);
    settings.timers.election_min = Duration::from_millis(150);
    settings.timers.election_max = Duration::from_millis(300);
    let machine = ledger.state_machine();
    let electorate = ledger.electorate();
    let consensus = Consensus::start(settings, kv, network, machine, electorate).await;
    let consensus = consensus.unwrap();
    consensus.bootstrap(&[1].into()).await.unwrap();
    let handle = ledger.start(consensus.clone(), &TaskTracker::new(), stop);
    (handle, consensus)
}

pub fn register_gateway(name: &str) -> Action {
    Action::Users(UsersAction::RegisterGateway {
        account: id(name),
        organization: id("city"),
        district: Scope::city(),
        key: public_key(name),
        proof: secret(name).prove(KeyPurpose::Account, &GENESIS.chain_id(), &id(name)),
    })
}

pub fn new_device(name: &str, district: &str, gateway: Option<&str>) -> NewDevice {
    NewDevice {
        device: id(name),
        owner: id("city"),
        model: "lamp".into(),
        hardware_class: "lamp-v1".into(),
        district: district.parse().unwrap(),
        gateway: gateway.map(id),
        key: None,
        proof: None,
        tags: Vec::new(),
    }
}

impl World {
    /// A transaction of an account with its next sequence number.
    pub fn sign(&self, account: &str, action: Action) -> SignedTransaction {
        let mut sequences = self.sequences.lock().unwrap();
        let sequence = sequences.entry(account.to_owned()).or_default();
        *sequence += 1;
        let transaction = Transaction {
            sender: id(account),
            sequence: *sequence,
            expires_ms: now_ms() + 600_000,
            action,
        };
        let chain_id = GENESIS.chain_id();
        SignedTransaction::sign(&transaction, Encoding::Json, &chain_id, &secret(account))
    }

    /// A new transaction of a gateway as JSON, and its hash. It will be in a block and change
    /// nothing.
    pub fn transaction(&self, gateway: &str) -> (Vec<u8>, Hash) {
        let (organization, name) = (id("club"), "Club".to_owned());
        let action = UsersAction::RegisterOrganization { organization, name };
        let signed = self.sign(gateway, Action::Users(action));
        let hash = signed.hash(&GENESIS.chain_id());
        (serde_json::to_vec(&signed).unwrap(), hash)
    }

    /// The same as [`World::transaction`], without the hash.
    pub fn tx(&self, gateway: &str) -> Vec<u8> {
        self.transaction(gateway).0
    }

    /// Submits an action of the administrator.
    pub async fn submit(&self, action: Action) -> Ticket {
        let signed = self.sign("admin", action);
        self.handle.submit(signed).await.unwrap()
    }

    /// Submits an action of the administrator, which must succeed.
    pub async fn act(&self, action: Action) {
        match self.submit(action).await.verdict().await {
            Verdict::Committed(commitment) => {
                let outcome = &commitment.receipt.outcome;
                assert_eq!(*outcome, Outcome::Succeeded, "{outcome:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// Makes a notification `device_tagged` of each device, in this order.
    pub async fn tag(&self, devices: &[&str]) {
        for device in devices {
            let value = self.sequences.lock().unwrap()["admin"].to_string();
            let tags = vec![Tag {
                name: "note".into(),
                value,
            }];
            let device = id(device);
            self.act(Action::Devices(DevicesAction::Tag { device, tags }))
                .await;
        }
    }

    /// Makes `count` notifications `device_registered` in one block: devices of a district whose
    /// names, as long as they may be, begin with `prefix`.
    pub async fn register_many(&self, prefix: &str, district: &str, count: usize) {
        let name = |n: usize| format!("{prefix}-{n:0width$}", width = 63 - prefix.len());
        let devices = (0..count).map(|n| new_device(&name(n), district, None));
        let devices = devices.collect();
        self.act(Action::Devices(DevicesAction::Register { devices }))
            .await;
    }

    /// Disables an account.
    pub async fn disable(&self, account: &str) {
        let account = id(account);
        self.act(Action::Users(UsersAction::Disable { account }))
            .await;
    }

    /// Revokes the role of an operator in a district.
    pub async fn revoke_role(&self, account: &str, district: &str) {
        let (account, scope) = (id(account), district.parse().unwrap());
        let role = Role::Operator;
        let action = UsersAction::Revoke {
            account,
            role,
            scope,
        };
        self.act(Action::Users(action)).await;
    }

    /// Waits until everything is certified, and returns the height.
    pub async fn certified(&self) -> u64 {
        let height = self.handle.head().height;
        self.handle.wait_certified(height, TIMEOUT).await.unwrap();
        height
    }

    /// Waits until a transaction is in a block.
    pub async fn until_committed(&self, hash: &Hash) {
        eventually("committed", || self.is_committed(hash)).await;
    }

    pub fn is_committed(&self, hash: &Hash) -> bool {
        self.handle.transaction(hash).unwrap().is_some()
    }

    /// Stops the edge; the ledger goes on.
    pub async fn stop_edge(&mut self) {
        self.edge.take().unwrap().stop().await;
    }

    /// Makes the ledger busy, or not.
    pub fn set_busy(&self, busy: bool) {
        let full = DiskFull {
            free_bytes: 0,
            reserve_bytes: 1,
        };
        self.handle.set_disk_full(busy.then_some(full));
    }

    /// A count of the edge.
    pub fn count(&self, name: &str) -> u64 {
        let all = self.counters.all();
        let found = all.into_iter().find(|(other, _)| *other == name);
        found.unwrap().1
    }

    /// Waits until a count of the edge holds.
    pub async fn until_count(&self, name: &str, holds: impl Fn(u64) -> bool) {
        eventually(&format!("count of {name}"), || holds(self.count(name))).await;
    }
}

/// Waits for something that is not announced.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIMEOUT, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Certificate and key of an account, and the node's certificate, as files for other programs.
pub struct Files {
    pub dir: TempDir,
}

impl Files {
    pub fn of(name: &str) -> Self {
        let files = Self {
            dir: TempDir::new().unwrap(),
        };
        let (account, node) = (identity(name), identity("node"));
        let certificate = pem("CERTIFICATE", &account.certificate);
        files.write("cert.pem", certificate);
        files.write("key.pem", pem("PRIVATE KEY", account.key.secret_der()));
        files.write("node.pem", pem("CERTIFICATE", &node.certificate));
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

pub fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

/// The height in the payload of a head.
pub fn head_height(payload: &[u8]) -> u64 {
    json(payload)["header"]["height"].as_u64().unwrap()
}
