//! Four nodes on real stores and sockets: a transaction sent to any of them is committed, certified
//! and proven.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use lamplighter_ledger::PeerGossip;
use lamplighter_node::{Node, NodeConfig, NodeError, key, mark_path};
use lamplighter_rocks::{Options, RocksKv};
use lamplighter_store::{Cf, Durability, Kv, WriteBatch};
use lamplighter_system::{error_chain, unix_ms};
use lamplighter_types::proof::{CertifiedHeader, ProofBundle};
use lamplighter_types::{
    Action, Attestation, Certificate, CertificateSignature, Encoding, GENESIS_VERSION, Genesis,
    GenesisAccount, Grant, Hash, Header, Id, Policies, Role, Scope, SecretKey, SignedTransaction,
    Transaction, UsersAction, Validator, ValidatorSet, codec,
};
use serde_json::Value;
use tempfile::TempDir;

const NODES: u64 = 4;
const TIMEOUT: Duration = Duration::from_secs(60);

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn admin() -> SecretKey {
    SecretKey::from_seed([77; 32])
}

fn set_up(dir: &Path) -> (Genesis, Vec<NodeConfig>) {
    let peers: Vec<_> = (0..NODES).map(|_| free_address()).collect();
    let mut configs = Vec::new();
    let mut validators = Vec::new();
    for (node, peer) in (1..).zip(peers) {
        let secret = key::generate().unwrap();
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
            http: Default::default(),
            admin_listen: any,
            mqtt_listen: any,
            mqtts_listen: None,
            mqtt_connect_s: 30,
            read_needs_token: false,
            heartbeat_ms: 1_000,
            clock_offset_max_ms: 30_000,
            disk: Default::default(),
            quotas: Default::default(),
            mqtt: Default::default(),
        });
    }
    let genesis = Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: unix_ms(),
        validators: ValidatorSet { validators },
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("admin"),
            name: "Administrator".into(),
            key: admin().public(),
            grants: vec![Grant::founding(Role::Administrator, Scope::city())],
        }],
        policies: Policies::default(),
    };
    let text = serde_json::to_vec_pretty(&genesis).unwrap();
    std::fs::write(dir.join("genesis.json"), text).unwrap();
    (genesis, configs)
}

fn organization(chain_id: &Hash, sequence: u64) -> SignedTransaction {
    let organization = id(&format!("organization-{sequence}"));
    let action = UsersAction::RegisterOrganization {
        organization,
        name: "Harbour".into(),
    };
    let transaction = Transaction {
        sender: id("admin"),
        sequence,
        expires_ms: unix_ms() + 600_000,
        action: Action::Users(action),
    };
    SignedTransaction::sign(&transaction, Encoding::Json, chain_id, &admin())
}

/// An HTTP client that pins the validators.
fn http_client(genesis: &Genesis) -> reqwest::Client {
    let keys = genesis.validators.validators.iter().map(|v| v.key);
    reqwest::Client::builder()
        .tls_backend_preconfigured(lamplighter_tls::client(None, keys.collect()).unwrap())
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

async fn post(client: &reqwest::Client, node: &Node, signed: &SignedTransaction) -> Value {
    let url = format!("https://{}/v1/transactions?wait=certified", node.edges.http);
    let answer = client.post(url).json(signed).send().await.unwrap();
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert!(status.is_success(), "{status}: {body}");
    body
}

/// A metric of a node in bytes.
async fn metric(client: &reqwest::Client, node: &Node, figure: &str) -> u64 {
    let url = format!("http://{}/metrics", node.edges.admin);
    let text = client.get(url).send().await.unwrap().text().await.unwrap();
    let name = format!("lamplighter_{figure}_bytes ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value
        .unwrap_or_else(|| panic!("{name} in {text}"))
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sent_to_any_node_is_certified_everywhere() {
    let dir = TempDir::new().unwrap();
    let (genesis, configs) = set_up(dir.path());
    let chain_id = genesis.chain_id();
    let client = http_client(&genesis);
    let mut nodes = Vec::new();
    for config in configs {
        nodes.push(Node::start(config).await.unwrap());
    }
    let signed: Vec<_> = (1..=NODES).map(|n| organization(&chain_id, n)).collect();
    for (node, signed) in nodes.iter().zip(&signed) {
        let answer = post(&client, node, signed).await;
        assert_eq!(answer["receipt"]["outcome"], "succeeded", "{answer}");
    }
    let hash = signed[0].hash(&chain_id);
    let again = post(&client, &nodes[3], &signed[0]).await;
    assert_eq!(again["transaction"], hash.to_string());

    let url = format!(
        "https://{}/v1/proofs/transactions/{hash}",
        nodes[2].edges.http
    );
    let bytes = client.get(url).send().await.unwrap().bytes().await.unwrap();
    let proven = ProofBundle::from_json(&bytes)
        .unwrap()
        .verify(&genesis)
        .unwrap();
    assert_eq!(again["height"], proven.height);

    for figure in ["memory", "store_memtable", "store_disk"] {
        assert!(metric(&client, &nodes[1], figure).await > 0, "{figure}");
    }

    // One of four stops; the others continue.
    let stopped = nodes.remove(0);
    stopped.shutdown().await.unwrap();
    post(&client, &nodes[0], &organization(&chain_id, 10)).await;
    for node in nodes {
        node.shutdown().await.unwrap();
    }
}

/// A node without a quorum is alive, and one that ends is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_alive_while_its_parts_answer() {
    let dir = TempDir::new().unwrap();
    let (_, configs) = set_up(dir.path());
    let node = Node::start(configs[0].clone()).await.unwrap();
    let liveness = node.liveness();
    for _ in 0..3 {
        liveness.check(TIMEOUT).await.unwrap();
    }
    let ended = tokio::spawn(node.shutdown());
    let noticed = async { while liveness.check(TIMEOUT).await.is_ok() {} };
    tokio::time::timeout(TIMEOUT, noticed).await.unwrap();
    drop(liveness);
    ended.await.unwrap().unwrap();
}

/// A header that contradicts a node's, with a certificate of it by these validators.
fn contradiction(of: &Header, configs: &[NodeConfig]) -> CertifiedHeader {
    let header = Header {
        state_root: Hash::of(b"another state"),
        ..of.clone()
    };
    let sign = |config: &NodeConfig| {
        let secret = key::read(&config.key).unwrap();
        let Attestation { key, signature, .. } =
            Attestation::sign(header.height, header.hash(), &secret);
        CertificateSignature { key, signature }
    };
    let mut signatures: Vec<_> = configs.iter().map(sign).collect();
    signatures.sort_by_key(|signature| signature.key);
    let certificate = Certificate {
        height: header.height,
        header: header.hash(),
        signatures,
    };
    CertifiedHeader {
        header,
        certificate,
    }
}

/// A node whose log is not the others' says so, and starts again in its process: it drops log and
/// state, catches up, and serves under its identity.
#[tokio::test(flavor = "multi_thread")]
async fn a_diverged_node_starts_again_in_its_process() {
    let dir = TempDir::new().unwrap();
    let (genesis, configs) = set_up(dir.path());
    let chain_id = genesis.chain_id();
    let client = http_client(&genesis);
    let mut nodes = Vec::new();
    for config in &configs {
        nodes.push(Node::start(config.clone()).await.unwrap());
    }
    for sequence in 1..=3 {
        post(&client, &nodes[0], &organization(&chain_id, sequence)).await;
    }
    let diverged = nodes.pop().unwrap();
    let height = nodes[0].handle.head().height;
    let reached = diverged
        .handle
        .watch_head()
        .wait_for(|head| head.height >= height)
        .await
        .is_ok();
    assert!(reached);
    let header = diverged.handle.header(height).unwrap().unwrap();
    let certified = Some(contradiction(&header, &configs[..3]));
    let gossip = PeerGossip {
        attestations: Vec::new(),
        certified,
    };
    diverged.handle.handle_gossip(gossip).await.unwrap();
    let error = tokio::time::timeout(TIMEOUT, diverged.failed())
        .await
        .unwrap();
    assert!(matches!(error, NodeError::Diverged(_)), "{error}");
    let marked = dir.path().join("node-4/data/snapshots");
    std::fs::create_dir_all(&marked).unwrap();
    std::fs::write(marked.join("of the dropped state"), b"").unwrap();

    let again = diverged.restart().await.unwrap();
    assert!(
        !marked.join("of the dropped state").exists(),
        "its images are dropped"
    );
    let mut head = again.handle.watch_head();
    let caught_up = head.wait_for(|head| head.height >= height);
    let caught_up = tokio::time::timeout(TIMEOUT, caught_up).await;
    caught_up.expect("it catches up").unwrap();
    assert_eq!(again.handle.header(height).unwrap(), Some(header));
    post(&client, &again, &organization(&chain_id, 4)).await;
    // It is needed for the next certificate.
    nodes.pop().unwrap().shutdown().await.unwrap();
    post(&client, &again, &organization(&chain_id, 5)).await;
    for node in nodes.into_iter().chain([again]) {
        node.shutdown().await.unwrap();
    }
}

/// The error of a node that does not start, with its causes.
async fn refused(config: &NodeConfig) -> String {
    let error = match Node::start(config.clone()).await {
        Ok(_) => panic!("the node is up"),
        Err(error) => error,
    };
    error_chain(&error)
}

/// Copies the store of a node that was stopped. The store itself may be open until the process
/// ends.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (
            entry.as_ref().unwrap(),
            to.join(entry.as_ref().unwrap().file_name()),
        );
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn write_genesis(dir: &Path, name: &str, genesis: &Genesis) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, serde_json::to_vec(genesis).unwrap()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatch_is_reported_with_both_sides() {
    let dir = TempDir::new().unwrap();
    let (genesis, configs) = set_up(dir.path());
    let chain = genesis.chain_id();
    let right = &configs[3];
    let key = genesis.validators.validators[3].key;

    // A wrong id leaves no mark beside the key: the right one starts after it.
    let mut wrong = right.clone();
    for node in [9, 2] {
        wrong.node = node;
        let text = refused(&wrong).await;
        let wanted = format!("is that of node 4, and the configuration says node = {node}");
        assert!(text.contains(&wanted), "{text}");
    }
    assert!(!mark_path(&right.key).exists());

    // The genesis of another city, before there are data.
    let mut other = genesis.clone();
    other.name = "Another City".to_owned();
    other.validators.validators[3].key = SecretKey::from_seed([78; 32]).public();
    let mut wrong = right.clone();
    wrong.genesis = write_genesis(dir.path(), "other.json", &other);
    let text = refused(&wrong).await;
    for part in [
        format!("of chain {}", other.chain_id()),
        format!("has {key}"),
        "the key is of no node there".to_owned(),
    ] {
        assert!(text.contains(&part), "{text}");
    }

    let node = Node::start(right.clone()).await.unwrap();
    node.shutdown().await.unwrap();
    // And after; with the same keys, and with the key that it has there.
    let mut renamed = genesis.clone();
    renamed.name = "Renamed City".to_owned();
    for (name, other) in [("renamed.json", &renamed), ("other.json", &other)] {
        let mut wrong = right.clone();
        wrong.genesis = write_genesis(dir.path(), name, other);
        wrong.data_dir = dir.path().join(format!("data of {name}"));
        copy(&right.data_dir, &wrong.data_dir);
        if name == "other.json" {
            wrong.key = dir.path().join("other.key");
            key::write(&wrong.key, &SecretKey::from_seed([78; 32])).unwrap();
        }
        let text = refused(&wrong).await;
        let wanted = format!("are of chain {chain}, and the genesis file");
        assert!(text.contains(&wanted), "{text}");
        let begins = format!("begins chain {}", other.chain_id());
        assert!(text.contains(&begins), "{text}");
    }
    let mut moved = right.clone();
    moved.data_dir = dir.path().join("moved");
    copy(&right.data_dir, &moved.data_dir);
    let node = Node::start(moved).await.unwrap();
    node.shutdown().await.unwrap();
}

async fn ready(client: &reqwest::Client, node: &Node) -> (u16, Value) {
    let url = format!("http://{}/readyz", node.edges.admin);
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Waits until `/readyz` answers 200; it has no report on the node's identity then.
async fn wait_ready(client: &reqwest::Client, node: &Node) {
    let until = Instant::now() + TIMEOUT;
    loop {
        let (status, body) = ready(client, node).await;
        if status == 200 {
            assert!(body["identity"].is_null(), "{body}");
            return;
        }
        assert!(Instant::now() < until, "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the report of `/readyz` on the node's identity has these words.
async fn wait_identity(client: &reqwest::Client, node: &Node, words: &str) -> (u16, Value) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (status, body) = ready(client, node).await;
        if body["identity"]
            .as_str()
            .is_some_and(|text| text.contains(words))
        {
            return (status, body);
        }
        assert!(tokio::time::Instant::now() < until, "{words}: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A second node with the key of one that runs, in a new folder and on other ports. The highest key
/// dials no peer, so that no peer could refuse it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_with_a_key_in_use_is_reported_on_both_sides() {
    let dir = TempDir::new().unwrap();
    let (genesis, configs) = set_up(dir.path());
    let client = http_client(&genesis);
    let mut nodes = Vec::new();
    for config in &configs {
        nodes.push(Node::start(config.clone()).await.unwrap());
    }
    let chain_id = genesis.chain_id();
    post(&client, &nodes[0], &organization(&chain_id, 1)).await;
    // The transaction is on a majority; the last node may not know a leader yet.
    for node in &nodes {
        wait_ready(&client, node).await;
    }
    let highest = genesis.validators.validators.iter().max_by_key(|v| v.key);
    let at = highest.unwrap().node as usize - 1;
    let mut copy = configs[at].clone();
    let home = dir.path().join("copy");
    std::fs::create_dir(&home).unwrap();
    std::fs::copy(&copy.key, home.join("key")).unwrap();
    (copy.key, copy.data_dir) = (home.join("key"), home.join("data"));
    copy.peer_listen = free_address();
    let second = Node::start(copy).await.unwrap();

    let address = configs[at].peer_listen;
    let answers = format!("another process uses this node's key: it answers at {address}");
    let (status, body) = wait_identity(&client, &second, &answers).await;
    assert_eq!((status, &body["ready"]), (503, &Value::Bool(false)));
    // It is reported, and does not keep the honest node from its work.
    let (status, _) = wait_identity(&client, &nodes[at], "it connects from 127.0.0.1:").await;
    assert_eq!(status, 200);
    post(&client, &nodes[at], &organization(&chain_id, 2)).await;
    second.shutdown().await.unwrap();
    for node in nodes {
        node.shutdown().await.unwrap();
    }
}

/// Sets the record of a peer's data directory in the store of a node that does not run.
fn set_peer_store(config: &NodeConfig, peer: &NodeConfig, store: Option<[u8; 16]>) {
    let peer = key::read(&peer.key).unwrap().public();
    let name = [b"node/peer/", &peer.0[..]].concat();
    let kv = RocksKv::open(&config.data_dir.join("db"), Options::default()).unwrap();
    let mut batch = WriteBatch::new();
    match store {
        Some(store) => batch.put(Cf::Meta, name, codec::encode(&store)),
        None => batch.delete(Cf::Meta, name),
    }
    kv.write(batch, Durability::Synced).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_reported_until_its_validator_accepts_the_node() {
    let dir = TempDir::new().unwrap();
    let (genesis, configs) = set_up(dir.path());
    let client = http_client(&genesis);
    // Each time in a copy of its folder.
    let mut other = configs[0].clone();
    let mut restart = |name, store| {
        let before = std::mem::replace(&mut other.data_dir, dir.path().join(name));
        copy(&before, &other.data_dir);
        set_peer_store(&other, &configs[1], store);
        Node::start(other.clone())
    };
    let first = Node::start(configs[0].clone()).await.unwrap();
    first.shutdown().await.unwrap();
    let refusing = restart("second", Some([5; 16])).await.unwrap();
    let node = Node::start(configs[1].clone()).await.unwrap();
    wait_identity(&client, &node, "1 of 4 validators refuse this node").await;
    refusing.shutdown().await.unwrap();
    let accepting = restart("third", None).await.unwrap();
    let until = Instant::now() + TIMEOUT;
    loop {
        let (_, body) = ready(&client, &node).await;
        if body["identity"].is_null() {
            break;
        }
        assert!(Instant::now() < until, "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for node in [accepting, node] {
        node.shutdown().await.unwrap();
    }
}
