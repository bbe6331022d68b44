//! A hundred readers of a long chain, with filters that match nothing, hurt nobody: the answers to
//! others stay fast, and the leader keeps its office.
//!
//! `LONG_CHAIN_BLOCKS` sets the length of the chain, `LONG_CHAIN_SECONDS` how long each part is
//! measured.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lamplighter_api::QuotaSettings;
use lamplighter_node::{HttpConfig, HttpTls, NamedTls, Node, NodeConfig, key};
use lamplighter_rocks::{Options, RocksKv};
use lamplighter_state::tables;
use lamplighter_store::{Durability, Kv, WriteBatch};
use lamplighter_system::unix_ms;
use lamplighter_types::login::{Audience, Challenge, ChallengeRequest, Token, TokenRequest};
use lamplighter_types::merkle::list;
use lamplighter_types::{
    Action, Encoding, Fact, GENESIS_VERSION, Genesis, GenesisAccount, Grant, Hash, Header, Id,
    Notification, Outcome, Place, Policies, Receipt, Role, Scope, SecretKey, SignedTransaction,
    Transaction, UsersAction, Validator, ValidatorSet, codec,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const NODES: u64 = 3;
const READERS: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Blocks unless `LONG_CHAIN_BLOCKS` says otherwise: a tenth of a second for each reader alone.
const BLOCKS: u64 = 20_000;
/// Seconds unless `LONG_CHAIN_SECONDS` says otherwise.
const SECONDS: u64 = 5;
/// Answers that take no longer are fast, whatever they took before.
const FAST: Duration = Duration::from_millis(20);
/// Rounds, each with and without readers. The times of all of them count together: other programs
/// on the test machine come and go, in both alike.
const ROUNDS: usize = 5;
const KINDS: [&str; 3] = ["status", "page of records", "transaction"];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

fn secret(of: u8) -> SecretKey {
    SecretKey::from_seed([of; 32])
}

fn account(name: &str, seed: u8) -> GenesisAccount {
    GenesisAccount {
        account: id(name),
        name: name.to_owned(),
        key: secret(seed).public(),
        grants: vec![Grant::founding(Role::Administrator, Scope::city())],
    }
}

fn set_up(dir: &Path, blocks: u64) -> (Genesis, Vec<NodeConfig>) {
    let (mut configs, mut validators) = (Vec::new(), Vec::new());
    for node in 1..=NODES {
        let (peer, secret) = (free_address(), key::generate().unwrap());
        let home = dir.join(format!("node-{node}"));
        std::fs::create_dir_all(&home).unwrap();
        key::write(&home.join("key"), &secret).unwrap();
        validators.push(Validator {
            node,
            account: id(&format!("node-{node}")),
            key: secret.public(),
            address: peer.to_string(),
        });
        let any = "127.0.0.1:0".parse().unwrap();
        configs.push(NodeConfig {
            node,
            genesis: dir.join("genesis.json"),
            key: home.join("key"),
            data_dir: home.join("data"),
            peer_listen: peer,
            http_listen: any,
            admin_listen: any,
            mqtt_listen: any,
            mqtts_listen: None,
            mqtt_connect_s: 30,
            read_needs_token: true,
            heartbeat_ms: 1_000,
            clock_offset_max_ms: 30_000,
            disk: Default::default(),
            http: HttpConfig {
                tls: HttpTls::Named(NamedTls::Off),
                ..HttpConfig::default()
            },
            // All readers are of one account, so that they compete for its turns.
            quotas: QuotaSettings {
                streams: 2 * READERS as u32,
                ..QuotaSettings::default()
            },
            mqtt: Default::default(),
        });
    }
    let genesis = Genesis {
        version: GENESIS_VERSION,
        name: "Long City".into(),
        created_ms: unix_ms() - blocks - 60_000,
        validators: ValidatorSet { validators },
        organization: id("city"),
        accounts: vec![account("admin", 77), account("reader", 78)],
        policies: Policies::default(),
    };
    let text = serde_json::to_vec_pretty(&genesis).unwrap();
    std::fs::write(dir.join("genesis.json"), text).unwrap();
    (genesis, configs)
}

fn notification(device: &str, fact: Fact) -> Notification {
    let place = Place {
        device: id(device),
        district: Scope::new("north").unwrap(),
        gateway: None,
    };
    Notification {
        place: Some(place),
        fact,
    }
}

/// Adds blocks to a store that has only the genesis block: each has one notification of each of two
/// devices, and changes nothing.
fn add_blocks(data_dir: &Path, blocks: u64) {
    let kv = RocksKv::open(&data_dir.join("db"), Options::default()).unwrap();
    let mut history = tables::load_history(&kv, 1).unwrap();
    let mut header = tables::header(&kv, 0).unwrap().unwrap();
    let receipt = Arc::new(Receipt {
        transaction: Hash::ZERO,
        outcome: Outcome::Succeeded,
        notifications: vec![
            notification("lamp-1", Fact::DeviceRegistered),
            notification("lamp-2", Fact::DeviceResumed),
        ],
    });
    let receipts = [receipt];
    let receipt_root = list::block_root(receipts.iter().map(|r| codec::encode(&**r)));
    let mut batch = WriteBatch::new();
    for height in 1..=blocks {
        header = Header {
            height,
            parent: header.hash(),
            timestamp_ms: header.timestamp_ms + 1,
            receipt_root,
            history_root: history.root(),
            ..header
        };
        tables::put_block(&mut batch, &header, &[], &receipts, &[]);
        tables::put_history(&mut batch, &history.append(&header.hash()));
        if height % 1_000 == 0 || height == blocks {
            kv.write(std::mem::take(&mut batch), Durability::Unsynced)
                .unwrap();
        }
    }
    kv.sync().unwrap();
    let closed = kv.closed();
    drop(kv);
    assert!(closed.wait(TIMEOUT), "the store is closed");
}

/// Each node starts alone once, which makes its store with the genesis block; no quorum makes
/// another.
async fn make_chains(configs: &[NodeConfig], blocks: u64) {
    for config in configs {
        let node = Node::start(config.clone()).await.unwrap();
        node.shutdown().await.unwrap();
    }
    for config in configs {
        let data_dir = config.data_dir.clone();
        let add = move || add_blocks(&data_dir, blocks);
        tokio::task::spawn_blocking(add).await.unwrap();
    }
}

struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    async fn login(base: &str, chain_id: &Hash, account: &str, secret: &SecretKey) -> Self {
        let tls = lamplighter_tls::client(None, [].into()).unwrap();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .build()
            .unwrap();
        let asked = ChallengeRequest {
            account: id(account),
            key: secret.public(),
        };
        let url = format!("{base}/v1/auth/challenge");
        let challenge = http.post(url).json(&asked).send().await.unwrap();
        let challenge: Challenge = challenge.json().await.unwrap();
        let audience = Audience::HttpRead;
        let signed = TokenRequest::sign(chain_id, &id(account), audience, &challenge, secret);
        let url = format!("{base}/v1/auth/token");
        let token = http.post(url).json(&signed).send().await.unwrap();
        let token: Token = token.json().await.unwrap();
        Self {
            http,
            base: base.to_owned(),
            token: token.token,
        }
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.base);
        let sent = self.http.get(url).bearer_auth(&self.token).timeout(TIMEOUT);
        let answer = sent.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    async fn submit(&self, chain_id: &Hash, sequence: u64) {
        let action = UsersAction::RegisterOrganization {
            organization: id(&format!("organization-{sequence}")),
            name: "Harbour".into(),
        };
        let transaction = Transaction {
            sender: id("admin"),
            sequence,
            expires_ms: unix_ms() + 600_000,
            action: Action::Users(action),
        };
        let signed = SignedTransaction::sign(&transaction, Encoding::Json, chain_id, &secret(77));
        let url = format!("{}/v1/transactions", self.base);
        let sent = self.http.post(url).json(&signed).timeout(TIMEOUT);
        let answer = sent.send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// Reads the feed until it ends, or for ever; fails on an event with data.
    async fn follow(&self, query: &str, bytes: &AtomicU64) {
        let url = format!("{}/v1/feed{query}", self.base);
        let sent = self.http.get(url).bearer_auth(&self.token);
        let mut answer = sent.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        while let Some(piece) = answer.chunk().await.unwrap() {
            let text = std::str::from_utf8(&piece).unwrap();
            assert!(!text.contains("data:"), "{text}");
            bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
}

/// The readers, until they are stopped.
struct Readers {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    bytes: Arc<AtomicU64>,
}

impl Readers {
    fn start(client: &Arc<Client>) -> Self {
        let readers = Self {
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            bytes: Arc::default(),
        };
        (0..READERS).fold(readers, |mut readers, number| {
            // The index answers the first at once. For the others it has each block under each of
            // the two keys, and every block is read.
            let query = match number % 2 {
                0 => "?after=0.0&device=missing",
                _ => "?after=0.0&device=lamp-2&kind=device_registered",
            };
            let (client, bytes) = (client.clone(), readers.bytes.clone());
            let stop = readers.stop.clone();
            readers.tasks.spawn(async move {
                stop.run_until_cancelled(client.follow(query, &bytes)).await;
            });
            readers
        })
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        assert!(self.bytes.load(Ordering::Relaxed) > 0, "the readers read");
    }
}

/// The times of each kind of request.
type Latencies = BTreeMap<&'static str, Vec<Duration>>;

/// The 99th percentile and the maximum.
fn percentile(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = (times.len() * 99).div_ceil(100).max(1) - 1;
    (times[at], times[times.len() - 1])
}

async fn measure(client: &Client, chain_id: &Hash, sequence: &AtomicU64) -> Latencies {
    let end = Instant::now() + Duration::from_secs(setting("LONG_CHAIN_SECONDS", SECONDS));
    let (mut status, mut reads, mut submits) = (Vec::new(), Vec::new(), Vec::new());
    while Instant::now() < end {
        let begin = Instant::now();
        client.get("/v1/status").await;
        status.push(begin.elapsed());
        let begin = Instant::now();
        client.get("/v1/users").await;
        reads.push(begin.elapsed());
        let begin = Instant::now();
        let number = sequence.fetch_add(1, Ordering::SeqCst);
        client.submit(chain_id, number).await;
        submits.push(begin.elapsed());
        // A steady rate, so that the requests themselves are no load.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    KINDS.into_iter().zip([status, reads, submits]).collect()
}

async fn leader_of(nodes: &[Node]) -> (u64, u64) {
    let end = Instant::now() + TIMEOUT;
    loop {
        let metrics = nodes[0].handle.status().consensus;
        if let Some(leader) = metrics.leader {
            return (leader, metrics.term);
        }
        assert!(Instant::now() < end, "no leader");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_long_chain_slow_no_others_down() {
    let blocks = setting("LONG_CHAIN_BLOCKS", BLOCKS);
    let dir = TempDir::new().unwrap();
    let (genesis, configs) = set_up(dir.path(), blocks);
    let chain_id = genesis.chain_id();
    let begin = Instant::now();
    make_chains(&configs, blocks).await;
    println!("{NODES} chains of {blocks} blocks in {:?}", begin.elapsed());
    let mut nodes = Vec::new();
    for config in configs {
        nodes.push(Node::start(config).await.unwrap());
    }
    let (leader, term) = leader_of(&nodes).await;
    let node = &nodes[leader as usize - 1];
    assert!(node.handle.head().height >= blocks);
    let base = format!("http://{}", node.edges.http);
    let client = Client::login(&base, &chain_id, "admin", &secret(77)).await;
    let reader = Client::login(&base, &chain_id, "reader", &secret(78)).await;
    let reader = Arc::new(reader);
    let sequence = AtomicU64::new(1);
    client
        .submit(&chain_id, sequence.fetch_add(1, Ordering::SeqCst))
        .await;
    let (mut quiet, mut read) = (Latencies::new(), Latencies::new());
    for round in 1..=ROUNDS {
        let before = measure(&client, &chain_id, &sequence).await;
        let readers = Readers::start(&reader);
        let during = measure(&client, &chain_id, &sequence).await;
        readers.stop().await;
        let term_now = leader_of(&nodes).await;
        assert_eq!(term_now, (leader, term), "the leader keeps its office");
        for kind in KINDS {
            let times = [&before, &during].map(|times| percentile(times[kind].clone()));
            println!("round {round}, {kind}: p99 and longest, quiet and read: {times:?}");
            quiet.entry(kind).or_default().extend(&before[kind]);
            read.entry(kind).or_default().extend(&during[kind]);
        }
    }
    for kind in KINDS {
        let [before, during] = [&quiet, &read].map(|times| percentile(times[kind].clone()).0);
        println!("{kind}: p99 {before:?}, with readers {during:?}");
        assert!(
            during <= FAST.max(before * 2),
            "{kind}: {before:?}, {during:?}"
        );
    }
    for node in nodes {
        node.shutdown().await.unwrap();
    }
}
