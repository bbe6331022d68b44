//! A ledger of one node in memory behind its listeners, and a client with a token.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_api::{EdgeAddresses, EdgeConfig, HttpSettings, HttpTls, QuotaSettings, serve};
use lamplighter_consensus::{Consensus, RaftLane, Transport, TransportError};
use lamplighter_ledger::{
    Clock, Handle, Identity, Ledger, LedgerConfig, PeerAnswer, PeerError, PeerGossip, PeerRequest,
    Peers, SystemClock,
};
use lamplighter_store::MemoryKv;
use lamplighter_types::login::{Audience, Challenge, ChallengeRequest, Token, TokenRequest};
use lamplighter_types::{
    Action, DevicesAction, Encoding, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Hash, Id,
    KeyPurpose, NewDevice, Policies, PublicKey, Role, Scope, SecretKey, Signature,
    SignedTransaction, Transaction, UsersAction, Validator, ValidatorSet,
};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest that any step of a test may take; only a failing test gets there.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(30);

pub fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

pub fn admin() -> SecretKey {
    SecretKey::from_seed([200; 32])
}

pub fn now_ms() -> u64 {
    SystemClock.now_ms()
}

pub fn node_key() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

pub fn genesis() -> Genesis {
    let grant = |role| Grant::founding(role, Scope::city());
    let roles = [Role::Administrator, Role::Operator, Role::Vendor];
    Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: now_ms(),
        validators: ValidatorSet {
            validators: vec![Validator {
                node: 1,
                account: id("node-1"),
                key: node_key().public(),
                address: "127.0.0.1:9001".into(),
            }],
        },
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("admin"),
            name: "Administrator".into(),
            key: admin().public(),
            grants: roles.map(grant).to_vec(),
        }],
        policies: Policies::of_one_person(),
    }
}

/// The network of a node without peers, or with one that only tells its time.
#[derive(Default)]
struct Alone {
    /// How far the clock of node 2 is ahead, in ms, while it is connected.
    ahead_ms: Mutex<Option<u64>>,
    /// Announcements that a caller waits for a certificate.
    demands: AtomicU64,
}

#[async_trait]
impl Transport for Alone {
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
impl Peers for Alone {
    async fn request(&self, node: u64, request: PeerRequest) -> Result<PeerAnswer, PeerError> {
        let ahead_ms = *self.ahead_ms.lock().unwrap();
        match (request, ahead_ms) {
            (PeerRequest::Time, Some(ahead_ms)) => Ok(PeerAnswer::Time {
                now_ms: SystemClock.now_ms() + ahead_ms,
            }),
            _ => Err(PeerError::Unreachable(node)),
        }
    }

    fn broadcast(&self, gossip: PeerGossip) {
        if gossip.attestations.is_empty() && gossip.certified.is_none() {
            self.demands.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn connected(&self) -> Vec<u64> {
        let ahead_ms = self.ahead_ms.lock().unwrap();
        ahead_ms.iter().map(|_| 2).collect()
    }
}

/// An HTTP client that accepts a node with this key.
pub fn pinned(key: PublicKey) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(lamplighter_tls::client(None, [key].into()).unwrap())
        .build()
        .unwrap()
}

pub struct Node {
    pub edges: EdgeAddresses,
    /// The node's TLS certificate (PEM).
    pub certificate: String,
    pub handle: Handle,
    pub genesis: Genesis,
    pub http: reqwest::Client,
    pub token: String,
    consensus: Consensus,
    wire: Arc<Alone>,
    tasks: TaskTracker,
    stop: CancellationToken,
    sequence: AtomicU64,
    _dir: TempDir,
}

/// An answer with its JSON; null if it has none.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.unwrap();
        Self {
            status,
            headers,
            json: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that it is a problem (RFC 9457) with this status and code.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        let Self {
            status: got, json, ..
        } = self;
        assert_eq!(
            (got.as_u16(), &json["code"]),
            (status, &Value::from(code)),
            "{json}"
        );
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(json["status"], status);
        assert!(
            json["title"].is_string() && json["detail"].is_string(),
            "{json}"
        );
    }

    /// Asserts success and returns the JSON.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.json);
        self.json
    }
}

/// Settings of the edge of a node.
#[derive(Default)]
pub struct Settings {
    pub http: HttpSettings,
    pub quotas: QuotaSettings,
}

impl Node {
    /// The proof with which `secret` is registered for an account.
    pub fn proof(&self, secret: &SecretKey, account: &Id) -> Signature {
        secret.prove(KeyPurpose::Account, &self.genesis.chain_id(), account)
    }

    pub async fn start() -> Self {
        Self::start_with(LedgerConfig::new(1)).await
    }

    /// Starts a node with these settings of its HTTP interface.
    pub async fn start_with_http(http: HttpSettings) -> Self {
        let settings = Settings {
            http,
            ..Settings::default()
        };
        Self::start_with_settings(settings).await
    }

    /// Starts a node with these settings of its edge.
    pub async fn start_with_settings(settings: Settings) -> Self {
        let (config, clock) = (LedgerConfig::new(1), Arc::new(SystemClock));
        let mut node = Self::begin_with(config, genesis(), clock, HttpTls::Ledger, settings).await;
        node.handle.wait_certified(1, STEP_TIMEOUT).await.unwrap();
        node.token = node.login(&id("admin"), &admin()).await;
        node
    }

    pub async fn start_with(config: LedgerConfig) -> Self {
        let reader = (id("admin"), admin());
        Self::start_in(config, genesis(), Arc::new(SystemClock), reader).await
    }

    /// Starts a ledger with this genesis and clock, and logs `reader` in for reads.
    pub async fn start_in(
        config: LedgerConfig,
        genesis: Genesis,
        clock: Arc<dyn Clock>,
        reader: (Id, SecretKey),
    ) -> Self {
        let tls = HttpTls::Ledger;
        let mut node = Self::begin(config, genesis, clock, tls).await;
        node.handle.wait_certified(1, STEP_TIMEOUT).await.unwrap();
        node.token = node.login(&reader.0, &reader.1).await;
        node
    }

    /// Starts a node whose HTTP interface shows other certificates.
    pub async fn start_with_tls(tls: HttpTls) -> Self {
        let clock = Arc::new(SystemClock);
        let mut node = Self::begin(LedgerConfig::new(1), genesis(), clock, tls).await;
        node.handle.wait_certified(1, STEP_TIMEOUT).await.unwrap();
        node.token = node.login(&id("admin"), &admin()).await;
        node
    }

    /// Starts a node whose blocks are not certified: a second validator would have to sign them.
    pub async fn start_without_certificates() -> Self {
        let mut genesis = genesis();
        genesis.validators.validators.push(Validator {
            node: 2,
            account: id("node-2"),
            key: SecretKey::from_seed([2; 32]).public(),
            address: "127.0.0.1:9002".into(),
        });
        let (clock, tls) = (Arc::new(SystemClock), HttpTls::Ledger);
        let mut node = Self::begin(LedgerConfig::new(1), genesis, clock, tls).await;
        node.handle.wait_height(1, STEP_TIMEOUT).await.unwrap();
        node.token = node.login(&id("admin"), &admin()).await;
        node
    }

    async fn begin(
        config: LedgerConfig,
        genesis: Genesis,
        clock: Arc<dyn Clock>,
        tls: HttpTls,
    ) -> Self {
        Self::begin_with(config, genesis, clock, tls, Settings::default()).await
    }

    async fn begin_with(
        mut config: LedgerConfig,
        genesis: Genesis,
        clock: Arc<dyn Clock>,
        tls: HttpTls,
        edge_settings: Settings,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let (kv, wire) = (Arc::new(MemoryKv::new()), Arc::new(Alone::default()));
        config.heartbeat_every = Duration::from_millis(200);
        let identity = Identity {
            account: id("node-1"),
            secret: node_key(),
        };
        let artifacts = dir.path().join("artifacts");
        let opened = Ledger::open(
            kv.clone(),
            genesis.clone(),
            config,
            identity,
            &artifacts,
            wire.clone(),
            clock,
        );
        let ledger = opened.await.unwrap();
        let mut settings =
            lamplighter_consensus::ConsensusConfig::new(1, dir.path().join("snapshots"));
        settings.timers.heartbeat = Duration::from_millis(50);
        settings.timers.election_min = Duration::from_millis(150);
        settings.timers.election_max = Duration::from_millis(300);
        let machine = ledger.state_machine();
        let electorate = ledger.electorate();
        let consensus = Consensus::start(settings, kv, wire.clone(), machine, electorate);
        let consensus = consensus.await.unwrap();
        consensus.bootstrap(&[1].into()).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let handle = ledger.start(consensus.clone(), &tasks, &stop);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let edge = EdgeConfig {
            node: 1,
            secret: node_key(),
            http_listen: any,
            http_tls: tls,
            http_handshake_time: STEP_TIMEOUT,
            names: Vec::new(),
            admin_listen: any,
            mqtt_listen: any,
            mqtts_listen: None,
            mqtt_connect_time: Duration::from_secs(30),
            read_needs_token: true,
            http: edge_settings.http,
            quotas: edge_settings.quotas,
            mqtt: Default::default(),
            certified_gateways: dir.path().join("certified-gateways"),
        };
        let certificate = edge.identity().unwrap().to_pem();
        let edges = serve(edge, handle.clone(), Vec::new(), &tasks, &stop)
            .await
            .unwrap();
        tasks.close();
        Self {
            edges,
            certificate,
            handle,
            genesis,
            http: pinned(node_key().public()),
            token: String::new(),
            consensus,
            wire,
            tasks,
            stop,
            sequence: AtomicU64::new(0),
            _dir: dir,
        }
    }

    /// Connects node 2, whose clock is so far ahead.
    pub fn connect_peer(&self, ahead_ms: u64) {
        *self.wire.ahead_ms.lock().unwrap() = Some(ahead_ms);
    }

    /// The number of times that the node asked the others to sign every header.
    pub fn demands(&self) -> u64 {
        self.wire.demands.load(Ordering::SeqCst)
    }

    /// Has these bytes committed as a batch, and returns whether they made a block.
    pub async fn commit_batch(&self, bytes: Vec<u8>) -> bool {
        let proposal = self.consensus.propose(bytes.into()).await.unwrap();
        let applied = proposal.outcome().await.unwrap();
        !applied.response.is_empty()
    }

    /// Stops all tasks. Fails if one does not end.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(STEP_TIMEOUT, self.tasks.wait())
            .await
            .unwrap();
        self.consensus.shutdown().await.unwrap();
    }

    /// A TLS connection for requests byte by byte.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        self.try_connect().await.unwrap()
    }

    /// Connects likewise; the node may have no place for it.
    pub async fn try_connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.edges.http).await?;
        self.try_connect_over(stream).await
    }

    /// TLS over a connection to the HTTP listener.
    pub async fn try_connect_over(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tls = lamplighter_tls::client(None, [node_key().public()].into()).unwrap();
        let connector = TlsConnector::from(Arc::new(tls));
        let name = "localhost".try_into().unwrap();
        connector.connect(name, stream).await
    }

    pub fn base(&self) -> String {
        format!("https://{}", self.edges.http)
    }

    /// A request without a token.
    pub fn open(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base()))
            .timeout(STEP_TIMEOUT)
    }

    /// A request with the administrator's token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.open(method, path).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn challenge(&self, account: &Id, secret: &SecretKey) -> Challenge {
        let asked = ChallengeRequest {
            account: account.clone(),
            key: secret.public(),
        };
        let sent = self
            .open(Method::POST, "/v1/auth/challenge")
            .json(&asked)
            .send();
        sent.await.unwrap().json().await.unwrap()
    }

    pub async fn login(&self, account: &Id, secret: &SecretKey) -> String {
        self.token_for(Audience::HttpRead, account, secret).await
    }

    pub async fn token_for(&self, audience: Audience, account: &Id, secret: &SecretKey) -> String {
        let challenge = self.challenge(account, secret).await;
        let chain_id = self.genesis.chain_id();
        let answer = TokenRequest::sign(&chain_id, account, audience, &challenge, secret);
        let sent = self
            .open(Method::POST, "/v1/auth/token")
            .json(&answer)
            .send();
        sent.await.unwrap().json::<Token>().await.unwrap().token
    }

    /// A transaction of the administrator with the next sequence number.
    pub fn transaction(&self, action: Action) -> Transaction {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        Transaction {
            sender: id("admin"),
            sequence,
            expires_ms: now_ms() + 600_000,
            action,
        }
    }

    pub fn sign(&self, action: Action) -> SignedTransaction {
        self.sign_for(&self.transaction(action), &self.genesis.chain_id())
    }

    pub fn sign_for(&self, transaction: &Transaction, chain_id: &Hash) -> SignedTransaction {
        SignedTransaction::sign(transaction, Encoding::Json, chain_id, &admin())
    }

    pub fn organization(&self, name: &str) -> Action {
        let (organization, name) = (id(name), name.to_owned());
        Action::Users(UsersAction::RegisterOrganization { organization, name })
    }

    pub fn devices(&self, names: &[&str], district: &str) -> Action {
        let device = |name: &&str| NewDevice {
            device: id(name),
            owner: id("city"),
            model: "lamp".into(),
            hardware_class: "lamp-v1".into(),
            district: district.parse().unwrap(),
            gateway: None,
            key: None,
            proof: None,
            tags: Vec::new(),
        };
        let devices = names.iter().map(device).collect();
        Action::Devices(DevicesAction::Register { devices })
    }

    /// Posts a transaction in JSON; `query` begins with a question mark.
    pub async fn submit(&self, signed: &SignedTransaction, query: &str) -> Answer {
        let request = self
            .open(Method::POST, &format!("/v1/transactions{query}"))
            .json(signed);
        Answer::of(request.send().await.unwrap()).await
    }

    /// Posts any bytes as a transaction.
    pub async fn post(&self, kind: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self
            .open(Method::POST, "/v1/transactions")
            .header(CONTENT_TYPE, kind);
        Answer::of(request.body(body).send().await.unwrap()).await
    }

    /// Submits an action, which must succeed.
    pub async fn act(&self, action: Action) -> Value {
        let answer = self.submit(&self.sign(action), "").await.ok();
        assert_eq!(answer["receipt"]["outcome"], "succeeded", "{answer}");
        answer
    }
}
