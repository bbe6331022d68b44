//! Four nodes on real stores and sockets: a transaction sent to any of them is committed, certified
//! and proven.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lamplighter_node::{Config, Node, key};
use lamplighter_types::proof::ProofBundle;
use lamplighter_types::{
    Action, Encoding, Genesis, GenesisAccount, Grant, Hash, Id, Policies, Role, Scope, SecretKey,
    SignedTransaction, Transaction, UsersAction, Validator, ValidatorSet,
};
use serde_json::Value;
use tempfile::TempDir;

const NODES: u64 = 4;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64
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

fn set_up(dir: &Path) -> (Genesis, Vec<Config>) {
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
        configs.push(Config {
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
            read_needs_token: false,
            heartbeat_ms: 1_000,
            clock_offset_max_ms: 30_000,
            disk: Default::default(),
        });
    }
    let genesis = Genesis {
        name: "Test City".into(),
        created_ms: now_ms(),
        validators: ValidatorSet { validators },
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("admin"),
            name: "Administrator".into(),
            key: admin().public(),
            grants: vec![Grant {
                role: Role::Administrator,
                scope: Scope::city(),
            }],
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
        expires_ms: now_ms() + 600_000,
        action: Action::Users(action),
    };
    SignedTransaction::sign(&transaction, Encoding::Json, chain_id, &admin())
}

async fn post(client: &reqwest::Client, node: &Node, signed: &SignedTransaction) -> Value {
    let url = format!("http://{}/v1/transactions?wait=certified", node.edges.http);
    let answer = client.post(url).json(signed).send().await.unwrap();
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert!(status.is_success(), "{status}: {body}");
    body
}

/// Bytes that a node tells its operator.
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
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap();
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
        "http://{}/v1/proofs/transactions/{hash}",
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

    // One of four goes; the others go on.
    let gone = nodes.remove(0);
    gone.shutdown().await.unwrap();
    post(&client, &nodes[0], &organization(&chain_id, 10)).await;
    for node in nodes {
        node.shutdown().await.unwrap();
    }
}
