//! A node whose chain begins a protocol version that this program does not know stops, and says so.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use lamplighter_ledger::{NodeAlarm, Verdict};
use lamplighter_node::{Node, NodeConfig, key};
use lamplighter_system::{error_chain, unix_ms};
use lamplighter_types::protocol::PROTOCOL_VERSION;
use lamplighter_types::{
    Action, Encoding, GENESIS_VERSION, Genesis, GenesisAccount, GovernanceAction, GovernanceChange,
    Grant, Id, Outcome, Policies, Role, Scope, SecretKey, SignedTransaction, Transaction,
    Validator, ValidatorSet,
};
use tokio::time::timeout;

/// Only a failing test waits so long.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Blocks before the unknown version: some seconds, in which the node looks for faults.
const BLOCKS_BEFORE: u64 = 40;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn admin(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

/// One validator and two administrators.
fn alone(dir: &Path) -> NodeConfig {
    let secret = key::generate().unwrap();
    key::write(&dir.join("key"), &secret).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer_listen = free.local_addr().unwrap();
    let account = |number: u8| GenesisAccount {
        account: id(&format!("admin-{number}")),
        name: "Administrator".into(),
        key: admin(number).public(),
        grants: vec![Grant::founding(Role::Administrator, Scope::city())],
    };
    let genesis = Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: unix_ms(),
        validators: ValidatorSet {
            validators: vec![Validator {
                node: 1,
                account: id("node-1"),
                key: secret.public(),
                address: peer_listen.to_string(),
            }],
        },
        organization: id("city"),
        accounts: vec![account(1), account(2)],
        policies: Policies::default(),
    };
    let text = serde_json::to_vec(&genesis).unwrap();
    std::fs::write(dir.join("genesis.json"), text).unwrap();
    let text = format!(
        "node = 1\ngenesis = \"genesis.json\"\nkey = \"key\"\ndata_dir = \"data\"\n\
         heartbeat_ms = 100\npeer_listen = \"{peer_listen}\"\nhttp_listen = \"127.0.0.1:0\"\n\
         admin_listen = \"127.0.0.1:0\"\nmqtt_listen = \"127.0.0.1:0\"\n"
    );
    std::fs::write(dir.join("node.toml"), text).unwrap();
    NodeConfig::read(&dir.join("node.toml")).unwrap()
}

async fn submit(node: &Node, number: u8, sequence: u64, action: GovernanceAction) {
    let transaction = Transaction {
        sender: id(&format!("admin-{number}")),
        sequence,
        expires_ms: unix_ms() + 600_000,
        action: Action::Governance(action),
    };
    let chain_id = node.handle.chain_id();
    let encoding = Encoding::Bincode;
    let signed = SignedTransaction::sign(&transaction, encoding, &chain_id, &admin(number));
    let ticket = node.handle.submit(signed).await.unwrap();
    match timeout(TIMEOUT, ticket.verdict()).await.unwrap() {
        Verdict::Committed(commitment) => {
            assert_eq!(commitment.receipt.outcome, Outcome::Succeeded);
        }
        other => panic!("{other:?}"),
    }
}

/// Two administrators put a version into force some blocks after the newest one.
async fn set_protocol(node: &Node, version: u32, blocks: u64) {
    let changes = vec![GovernanceChange::SetProtocol {
        version,
        from_height: node.handle.head().height + blocks,
    }];
    let digest = GovernanceChange::digest(&changes);
    let proposal = id(&format!("version-{version}"));
    let propose = GovernanceAction::Propose {
        proposal: proposal.clone(),
        changes,
    };
    let sequence = u64::from(version) - 1;
    submit(node, 1, sequence, propose).await;
    let approve = GovernanceAction::Approve {
        proposal,
        changes: digest,
    };
    submit(node, 2, sequence, approve).await;
}

/// Waits for a block after which something is true.
async fn wait_for(node: &Node, is_true: impl Fn() -> bool) {
    let mut head = node.handle.watch_head();
    let all = async {
        while !is_true() {
            head.changed().await.unwrap();
        }
    };
    timeout(TIMEOUT, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stops_at_a_newer_protocol_version_and_reports_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = alone(dir.path());
    let node = Node::start(config.clone()).await.unwrap();
    // Each version up to the newest known one, then one more.
    for version in 2..=PROTOCOL_VERSION {
        set_protocol(&node, version, 3).await;
        let in_force = || node.handle.protocol().unwrap().version == version;
        wait_for(&node, in_force).await;
    }
    let newer = PROTOCOL_VERSION + 1;
    set_protocol(&node, newer, BLOCKS_BEFORE).await;
    let from_height = node.handle.protocol().unwrap().next.unwrap().1;
    let alarm = NodeAlarm::NewerProtocol {
        version: newer,
        from_height,
    };
    let is_raised = || {
        let alarms = node.handle.status().alarms;
        alarms.iter().any(|raised| raised.alarm == alarm)
    };
    wait_for(&node, is_raised).await;

    let stopped = timeout(TIMEOUT, node.failed()).await.unwrap();
    let text = error_chain(&stopped);
    let named = format!("runs protocol version {newer}");
    assert!(text.contains(&named), "{text}");
    let halted = node.handle.status().halted.unwrap().to_string();
    assert!(halted.contains(&named), "{halted}");
    let url = format!("http://{}/readyz", node.edges.admin);
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(lamplighter_tls::client(None, [].into()).unwrap())
        .build()
        .unwrap();
    let answer = http.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["halted"], halted, "{body}");
    // Consensus has stopped already, so its shutdown may fail.
    node.shutdown().await.ok();

    // It stops again, for the same reason.
    let stopped = match Node::start(config).await {
        Ok(node) => timeout(TIMEOUT, node.failed()).await.unwrap(),
        Err(error) => error,
    };
    let text = error_chain(&stopped);
    assert!(text.contains("protocol version"), "{text}");
}
