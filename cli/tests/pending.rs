//! A command given while there is no quorum: what was sent is told, and can be sent again.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lamplighter_node::{Config, Node, key};
use lamplighter_types::{
    Genesis, GenesisAccount, Grant, Id, Policies, Role, Scope, SignedTransaction, Validator,
    ValidatorSet,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The configurations of two nodes, neither of which has a quorum alone.
fn set_up(dir: &Path) -> [Config; 2] {
    let admin = key::generate().unwrap();
    key::write(&dir.join("admin.key"), &admin).unwrap();
    let mut validators = Vec::new();
    let configs = [1, 2].map(|node| {
        let (secret, peer_listen) = (key::generate().unwrap(), free_address());
        let file = dir.join(format!("node-{node}.key"));
        key::write(&file, &secret).unwrap();
        validators.push(Validator {
            node,
            account: id(&format!("node-{node}")),
            key: secret.public(),
            address: peer_listen.to_string(),
        });
        let any = "127.0.0.1:0".parse().unwrap();
        Config {
            node,
            genesis: dir.join("genesis.json"),
            key: file,
            data_dir: dir.join(format!("data-{node}")),
            peer_listen,
            http_listen: free_address(),
            admin_listen: any,
            mqtt_listen: any,
            mqtts_listen: None,
            read_needs_token: true,
            heartbeat_ms: 1_000,
            clock_offset_max_ms: 30_000,
            disk: Default::default(),
        }
    });
    let genesis = Genesis {
        name: "Test City".into(),
        created_ms: now_ms(),
        validators: ValidatorSet { validators },
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("admin"),
            name: "Administrator".into(),
            key: admin.public(),
            grants: vec![Grant {
                role: Role::Administrator,
                scope: Scope::city(),
            }],
        }],
        policies: Policies::default(),
    };
    let text = serde_json::to_vec_pretty(&genesis).unwrap();
    std::fs::write(dir.join("genesis.json"), text).unwrap();
    configs
}

/// Gives a command as the administrator, in the folder, with both nodes' addresses.
async fn give(dir: &Path, nodes: &[Config; 2], words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command
        .current_dir(dir)
        .args(["--as", "admin", "--key", "admin.key"]);
    command.args(["--genesis", "genesis.json"]);
    for node in nodes {
        command
            .arg("--node-url")
            .arg(format!("http://{}", node.http_listen));
    }
    command.args(words);
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_without_a_quorum_is_told_and_can_be_sent_again() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let configs = set_up(dir);
    let register = [
        "--timeout",
        "3",
        "user",
        "organization",
        "lighting",
        "Lighting",
    ];
    // Nobody has it: the same command may be given again.
    let output = give(dir, &configs, &register).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("no node did what was asked"),
        "{output:?}"
    );

    let first = Node::start(configs[0].clone()).await.unwrap();
    let output = give(dir, &configs, &register).await;
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    let taken = format!("taken by http://{}", configs[0].http_listen);
    for part in [&taken, "It may still happen, until ", " (in 00:0"] {
        assert!(told.contains(part), "{told}");
    }
    let after = |begin: &str| {
        let rest = told
            .split_once(begin)
            .unwrap_or_else(|| panic!("{begin}: {told}"))
            .1;
        rest.split_whitespace().next().unwrap().to_owned()
    };
    let hash = after("lamplighter transaction show ");
    let file = after("lamplighter transaction send ");
    let bytes = std::fs::read(dir.join(&file)).unwrap();
    let signed: SignedTransaction = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(signed.hash(&first.handle.chain_id()).to_string(), hash);
    let again = ["--timeout", "3", "--json", "transaction", "send", &file];
    let output = give(dir, &configs, &again).await;
    assert_eq!(output.status.code(), Some(4));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        json["taken_by"][0],
        format!("http://{}", configs[0].http_listen)
    );

    let second = Node::start(configs[1].clone()).await.unwrap();
    first.handle.wait_certified(1, PATIENCE).await.unwrap();
    for _ in 0..2 {
        let output = give(dir, &configs, &["transaction", "send", &file]).await;
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).contains(&hash), "{output:?}");
    }
    let output = give(dir, &configs, &["transaction", "show", &hash]).await;
    assert!(output.status.success(), "{output:?}");
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}
