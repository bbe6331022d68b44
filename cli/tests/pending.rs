//! Commands of people at a ledger of two nodes, run by the program itself: what they print while
//! there is no quorum, and what approvers see.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lamplighter_node::{Node, NodeConfig, key};
use lamplighter_types::{
    GENESIS_VERSION, Genesis, GenesisAccount, Grant, Id, Policies, Role, Scope, SignedTransaction,
    Validator, ValidatorSet,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};

const TIMEOUT: Duration = Duration::from_secs(60);

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
fn set_up(dir: &Path) -> [NodeConfig; 2] {
    let people = [
        ("admin", Role::Administrator),
        ("vendor", Role::Vendor),
        ("approver", Role::Approver),
    ];
    let accounts = people.map(|(account, role)| {
        let secret = key::generate().unwrap();
        key::write(&dir.join(format!("{account}.key")), &secret).unwrap();
        GenesisAccount {
            account: id(account),
            name: account.into(),
            key: secret.public(),
            grants: vec![Grant::founding(role, Scope::city())],
        }
    });
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
        NodeConfig {
            node,
            genesis: dir.join("genesis.json"),
            key: file,
            data_dir: dir.join(format!("data-{node}")),
            peer_listen,
            http_listen: free_address(),
            http: Default::default(),
            admin_listen: any,
            mqtt_listen: any,
            mqtts_listen: None,
            mqtt_connect_s: 30,
            read_needs_token: true,
            quotas: Default::default(),
            mqtt: Default::default(),
            heartbeat_ms: 1_000,
            clock_offset_max_ms: 30_000,
            disk: Default::default(),
        }
    });
    let genesis = Genesis {
        version: GENESIS_VERSION,
        name: "Test City".into(),
        created_ms: now_ms(),
        validators: ValidatorSet { validators },
        organization: id("city"),
        accounts: accounts.to_vec(),
        policies: Policies::default(),
    };
    let text = serde_json::to_vec_pretty(&genesis).unwrap();
    std::fs::write(dir.join("genesis.json"), text).unwrap();
    configs
}

/// The nodes, as people know them.
struct Ledger<'a> {
    dir: &'a Path,
    nodes: [NodeConfig; 2],
}

impl Ledger<'_> {
    /// Runs a command in the folder, with the addresses of both nodes.
    async fn run(&self, account: &str, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
        command.current_dir(self.dir).args(["--as", account]);
        command.env("LAMPLIGHTER_STATE", self.dir.join("state"));
        command.args([
            "--key",
            &format!("{account}.key"),
            "--genesis",
            "genesis.json",
        ]);
        for node in &self.nodes {
            command
                .arg("--node-url")
                .arg(format!("https://{}", node.http_listen));
        }
        command.args(words);
        let output = tokio::task::spawn_blocking(move || command.output());
        output.await.unwrap().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_without_quorum_is_reported_pending_and_can_be_sent_again() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger {
        dir: dir.path(),
        nodes: set_up(dir.path()),
    };
    let register = [
        "--timeout",
        "3",
        "user",
        "organization",
        "lighting",
        "Lighting",
    ];
    // No node has it: the same command may be run again.
    let output = ledger.run("admin", &register).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("no node did what"),
        "{output:?}"
    );

    watching_warns_when_no_node_answers(&ledger).await;

    let first = Node::start(ledger.nodes[0].clone()).await.unwrap();
    let output = ledger.run("admin", &register).await;
    let printed = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{printed}");
    let url = format!("https://{}", ledger.nodes[0].http_listen);
    for part in [&format!("taken by {url}"), "It may still happen, until "] {
        assert!(printed.contains(part), "{printed}");
    }
    let after = |begin: &str| {
        let rest = printed
            .split_once(begin)
            .unwrap_or_else(|| panic!("{begin}: {printed}"))
            .1;
        rest.split_whitespace().next().unwrap().to_owned()
    };
    let hash = after("lamplighter transaction show ");
    assert_eq!(after("lamplighter transaction resume "), hash);
    let again = ["--timeout", "3", "--json", "transaction", "resume", &hash];
    let output = ledger.run("admin", &again).await;
    assert_eq!(output.status.code(), Some(4));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["taken_by"][0], url);
    let file = json["file"].as_str().unwrap().to_owned();
    let bytes = std::fs::read(&file).unwrap();
    let signed: SignedTransaction = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(signed.hash(&first.handle.chain_id()).to_string(), hash);
    let listed = ["--timeout", "3", "transaction", "pending"];
    let output = ledger.run("admin", &listed).await;
    let printed = text(&output.stdout);
    assert!(
        printed.contains(&hash) && printed.contains("waiting"),
        "{output:?}"
    );

    let second = Node::start(ledger.nodes[1].clone()).await.unwrap();
    first.handle.wait_certified(1, TIMEOUT).await.unwrap();
    let copy = ledger.dir.join("copy.json");
    std::fs::copy(&file, &copy).unwrap();
    let copy = copy.display().to_string();
    for again in [
        ["transaction", "pending"].as_slice(),
        &["transaction", "send", &copy],
        &["transaction", "send", &copy],
    ] {
        let output = ledger.run("admin", again).await;
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).contains(&hash), "{output:?}");
    }
    // Its outcome is known.
    assert!(!std::path::Path::new(&file).exists());
    let output = ledger.run("admin", &["transaction", "resume", &hash]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = ledger.run("admin", &["transaction", "show", &hash]).await;
    assert!(output.status.success(), "{output:?}");
    approvers_read_fields(&ledger).await;
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

/// A watching command warns once when no node answers, and keeps waiting.
async fn watching_warns_when_no_node_answers(ledger: &Ledger<'_>) {
    let url = format!("https://{}", ledger.nodes[0].http_listen);
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_lamplighter"))
        .args(["--node-url", &url, "--genesis", "genesis.json"])
        .args(["event", "watch"])
        .current_dir(ledger.dir)
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(watch.stderr.take().unwrap()).lines();
    let first = tokio::time::timeout(TIMEOUT, printed.next_line()).await;
    let first = first.expect("it says nothing").unwrap().unwrap();
    let words = "lamplighter: warning: no node answers, trying again: ";
    assert!(first.starts_with(words) && first.contains(&url), "{first}");
    // Several attempts later, which are 100 ms, 200 ms and so on apart.
    let more = tokio::time::timeout(Duration::from_secs(1), printed.next_line()).await;
    assert!(more.is_err(), "{more:?}");
}

/// An approver sees each field before the approval is sent.
async fn approvers_read_fields(ledger: &Ledger<'_>) {
    std::fs::write(ledger.dir.join("image.bin"), [7; 1000]).unwrap();
    let publish = "firmware publish image.bin --release lamp-2 --version 2.0.0 \
                   --hardware-class lamp-v1 --hardware-class lamp-v2 --security-counter 1";
    let publish: Vec<_> = publish.split_whitespace().collect();
    let output = ledger.run("vendor", &publish).await;
    assert!(output.status.success(), "{output:?}");
    let approve = ["firmware", "approve", "lamp-2"];
    let output = ledger.run("admin", &approve).await;
    assert_eq!(output.status.code(), Some(3));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("version") && !shown.contains("done in"),
        "{shown}"
    );
    let output = ledger
        .run("admin", &[approve.as_slice(), &["--json"]].concat())
        .await;
    assert_eq!(output.status.code(), Some(3));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let hash = json["transaction"].as_str().unwrap();
    assert!(
        json["height"].is_u64() && json["receipt"]["outcome"].is_object(),
        "{json}"
    );
    assert!(text(&output.stderr).contains(hash), "{output:?}");
    // Refused until both validators have signed that they hold the image.
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    let printed = loop {
        let output = ledger.run("approver", &approve).await;
        if output.status.success() {
            break text(&output.stdout);
        }
        assert!(tokio::time::Instant::now() < deadline, "{output:?}");
    };
    let field = |name: &str, value: &str| {
        let mut lines = printed.lines().map(str::trim);
        lines.any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.trim() == value)
        })
    };
    assert!(
        field("version", "2.0.0") && field("size", "1000 bytes"),
        "{printed}"
    );
    assert!(field("for hardware", "lamp-v1 lamp-v2"), "{printed}");
    let places = ["security counter", "done in block"].map(|part| printed.find(part).unwrap());
    assert!(places[0] < places[1], "{printed}");
    assert!(
        !printed.contains("ReleaseManifest") && !printed.contains("Hash("),
        "{printed}"
    );
}
