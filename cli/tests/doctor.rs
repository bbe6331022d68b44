//! `doctor` beside a node with each fault made for real.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lamplighter_node::NodeConfig;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(90);
/// The library of libfaketime for programs with threads, where Debian has it.
const FAKETIME: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

fn lamplighter(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::null());
    command
}

fn done(folder: &Path, arguments: &[&str]) {
    let output = lamplighter(folder, arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
}

/// The first of ten free ports, five for each of two nodes.
fn free_ports() -> u16 {
    let all_free = |first: &u16| {
        let ports = (*first..first + 10).map(|port| TcpListener::bind(("127.0.0.1", port)));
        ports.collect::<Result<Vec<_>, _>>().is_ok()
    };
    // Below the range from which the system gives ports, and apart for each process.
    let start = 10_000 + (std::process::id() % 1_500) as u16 * 10;
    let mut candidates = (start..32_000).step_by(10);
    candidates.find(all_free).unwrap()
}

/// Two founded nodes on this machine; none runs.
struct Founded {
    folder: tempfile::TempDir,
    first_port: u16,
}

impl Founded {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first_port = free_ports();
        for node in [1, 2] {
            let port = first_port + 5 * (node - 1);
            let (node, address) = (node.to_string(), format!("127.0.0.1:{port}"));
            let port = port.to_string();
            let init = ["node", "init", &format!("node-{node}"), "--node", &node];
            let more = [
                "--address",
                &address,
                "--administrator",
                &format!("a{node}"),
            ];
            let ports = ["--host", "127.0.0.1", "--first-port", &port];
            let genesis = ["--genesis", "genesis.json"];
            let all = [&init[..], &more[..], &ports[..], &genesis[..]].concat();
            done(folder.path(), &all);
        }
        let files = ["node-1/party.toml", "node-2/party.toml"];
        let names = ["--name", "City", "--organization", "city"];
        let create = [&["genesis", "create"][..], &files, &names].concat();
        let create = [&create[..], &["--out", "genesis.json"]].concat();
        done(folder.path(), &create);
        Self { folder, first_port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, change: impl FnOnce(&mut NodeConfig)) {
        let path = self.path("node-1/node.toml");
        let mut config = NodeConfig::read(&path).unwrap();
        change(&mut config);
        fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    }

    fn run(&self, node: u8, faketime: Option<&str>) -> Running {
        let config = format!("node-{node}/node.toml");
        let arguments = ["node", "run", "--until-stdin-ends", "--config", &config];
        let mut command = lamplighter(self.folder.path(), &arguments);
        if let Some(offset) = faketime {
            let library = FAKETIME.iter().find(|file| Path::new(file).exists());
            let library = library.expect("scripts/setup --test installs faketime");
            command.env("LD_PRELOAD", library).env("FAKETIME", offset);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let child = command.stdin(Stdio::piped()).stderr(Stdio::null());
        Running(child.spawn().unwrap())
    }

    /// The finding of a check, and whether there is a fault.
    fn finding(&self, check: &str) -> (Value, bool) {
        self.finding_with(check, &[])
    }

    fn finding_with(&self, check: &str, more: &[&str]) -> (Value, bool) {
        let (printed, is_faulty) = self.examine(more);
        let finding = find(&printed, check);
        (
            finding.unwrap_or_else(|| panic!("no {check} in {printed}")),
            is_faulty,
        )
    }

    /// All findings, and whether there is a fault.
    fn examine(&self, more: &[&str]) -> (Value, bool) {
        let doctor = ["--json", "doctor", "--config", "node-1/node.toml"];
        let all = [&doctor[..], more].concat();
        let output = lamplighter(self.folder.path(), &all).output().unwrap();
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let faults = printed["faults"].as_u64().unwrap();
        assert_eq!(
            output.status.code(),
            Some(i32::from(faults > 0)),
            "{printed}"
        );
        (printed, faults > 0)
    }

    /// Asserts what a check finds: its severity, a part of the words, and a part of the remedy.
    fn expect(&self, check: &str, severity: &str, found: &str, remedy: &str) {
        let (finding, is_faulty) = self.finding(check);
        assert_finding(&finding, severity, found, remedy);
        assert_eq!(is_faulty, severity == "fault", "{finding}");
    }

    /// Waits until a check finds something, in these words among others.
    fn until(&self, check: &str, severity: &str, found: &str) {
        let end = Instant::now() + TIMEOUT;
        loop {
            let (printed, _) = self.examine(&[]);
            // The node itself has no finding before it answers.
            match find(&printed, check) {
                Some(finding) if finding["found"].as_str().unwrap().contains(found) => {
                    return assert_finding(&finding, severity, found, "");
                }
                _ => assert!(Instant::now() < end, "{printed}"),
            }
        }
    }
}

fn find(printed: &Value, check: &str) -> Option<Value> {
    let findings = printed["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.cloned()
}

fn assert_finding(finding: &Value, severity: &str, found: &str, remedy: &str) {
    assert_eq!(finding["severity"], severity, "{finding}");
    let words = finding["found"].as_str().unwrap();
    assert!(words.contains(found), "{words} has not {found}");
    let words = finding["remedy"].as_str().unwrap_or_default();
    assert!(words.contains(remedy), "{words} has not {remedy}");
}

/// A node that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn doctor_finds_faults_of_files() {
    let founded = Founded::new();
    founded.expect("key", "good", "is its owner's alone", "");
    founded.expect("genesis", "good", "this is node 1 of it", "");
    let key = founded.path("node-1/node.key");
    set_mode(&key, 0o644);
    founded.expect("key", "fault", "can be read by others", "chmod 600");
    set_mode(&key, 0o600);
    set_mode(&founded.path("node-1"), 0o777);
    founded.expect("key", "fault", "others may write to", "chmod go-w");
    set_mode(&founded.path("node-1"), 0o755);
    fs::create_dir(founded.path("node-1/data")).unwrap();
    set_mode(&founded.path("node-1/data"), 0o777);
    founded.expect("data", "fault", "others may write to", "chmod go-w");
    set_mode(&founded.path("node-1/data"), 0o700);
    // The key of the other node, and one that is nobody's.
    let bytes = fs::read(&key).unwrap();
    fs::copy(founded.path("node-2/node.key"), &key).unwrap();
    founded.expect("genesis", "fault", "is that of node 2", "set node = 2");
    fs::write(&key, "11".repeat(32)).unwrap();
    founded.expect("genesis", "fault", "has the key", "compare the chain id");
    fs::write(&key, bytes).unwrap();
    fs::write(founded.path("node-1/node.key.used"), "{}").unwrap();
    founded.expect("data", "fault", "does not say what", "node join");
    fs::remove_file(founded.path("node-1/node.key.used")).unwrap();
    let genesis = founded.path("genesis.json");
    let text = fs::read_to_string(&genesis).unwrap();
    fs::write(
        &genesis,
        text.replace("\"city\"", "\"other-city\"")
            .replace("node-2", "node-1"),
    )
    .unwrap();
    founded.expect("genesis", "fault", "is there twice", "get the file again");
    fs::remove_file(&genesis).unwrap();
    founded.expect("genesis", "fault", "genesis.json", "copy the genesis file");
    fs::write(founded.path("node-1/node.toml"), "node = \"one\"").unwrap();
    founded.expect("settings", "fault", "is not usable", "configuration.md");
}

#[test]
fn doctor_finds_faults_of_the_machine() {
    let founded = Founded::new();
    founded.expect("disk space", "good", "MiB free", "");
    founded.configure(|config| config.disk.reserve_bytes = Some(u64::MAX));
    founded.expect(
        "disk space",
        "fault",
        "MiB are the reserve",
        "free some space",
    );
    founded.configure(|config| config.disk.reserve_bytes = None);
    let (slow, _) = founded.finding_with("disk speed", &["--sync-ms-max", "0"]);
    assert_finding(&slow, "warning", "a sync of 4096 bytes", "within 0 ms");
    let (quick, _) = founded.finding_with("disk speed", &["--sync-ms-max", "100000"]);
    assert_finding(&quick, "good", "a sync of 4096 bytes", "");
    let left = fs::read_dir(founded.path("node-1")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains("doctor")),
        "{left:?}"
    );

    founded.expect("ports", "good", "are free", "");
    let http = founded.first_port + 1;
    let taken = TcpListener::bind(("127.0.0.1", http)).unwrap();
    let what = format!("http_listen = 127.0.0.1:{http} can't be used");
    founded.expect(
        "ports",
        "fault",
        &what,
        &format!("ss -ltnp 'sport = :{http}'"),
    );
    drop(taken);
    founded.configure(|config| config.mqtt_listen = config.peer_listen);
    founded.expect(
        "ports",
        "fault",
        "mqtt_listen and peer_listen both have port",
        "its own port",
    );
    founded.configure(|config| config.mqtt_listen = "192.0.2.1:1883".parse().unwrap());
    founded.expect(
        "ports",
        "fault",
        "mqtt_listen = 192.0.2.1:1883",
        "correct mqtt_listen",
    );
}

/// A certificate of twenty days with its key, made by OpenSSL at this offset from now.
fn openssl(folder: &Path, name: &str, made: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let output = Command::new("faketime")
        .args(["-f", made, "openssl"])
        .args([
            "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=node",
        ])
        .args(["-days", "20", "-keyout", &key, "-out", &certificate])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn doctor_finds_faults_of_certificates() {
    let founded = Founded::new();
    let folder = founded.path("node-1");
    for (name, made) in [("new", "-1d"), ("soon", "-250h"), ("old", "-30d")] {
        openssl(&folder, name, made);
    }
    let show = |certificate: &str, key: &str| {
        founded.configure(|config| {
            config.http.tls =
                lamplighter_node::HttpTls::Files(lamplighter_node::CertificateFiles {
                    certificate: format!("{certificate}.pem").into(),
                    key: format!("{key}.key").into(),
                });
        });
    };
    show("new", "new");
    founded.expect("certificate", "good", "is valid for 1", "");
    show("soon", "soon");
    founded.expect("certificate", "warning", "expires in 9 days", "renew it");
    show("old", "old");
    founded.expect("certificate", "fault", "days ago", "renew it");
    show("new", "old");
    founded.expect("certificate", "fault", "new.pem", "a chain and its key");
    show("new", "none");
    founded.expect("certificate", "fault", "none.key can't be read", "");
    show("new", "new");
    set_mode(&folder.join("new.key"), 0o644);
    founded.expect("certificate", "fault", "others can read", "chmod 640");
}

#[test]
fn doctor_finds_other_nodes_and_their_clocks() {
    let founded = Founded::new();
    founded.expect(
        "peers",
        "warning",
        "nothing listens at 127.0.0.1",
        "start node 2",
    );
    let other = founded.run(2, None);
    founded.until("clock", "good", "that of 1 nodes");
    founded.expect(
        "peers",
        "good",
        "all 1 others are reached; 2 nodes decide",
        "",
    );
    founded.expect("versions", "good", env!("CARGO_PKG_VERSION"), "");
    // While this node runs it has its ports, and says itself how it is.
    let this = founded.run(1, None);
    founded.until("node", "good", "node 1 runs, at block");
    founded.expect("ports", "good", "the node runs", "");
    drop((this, other));
    // A minute behind: more than the others accept; then some seconds.
    for (offset, severity) in [("+60", "fault"), ("+10", "warning")] {
        let other = founded.run(2, Some(offset));
        founded.until("clock", severity, "s behind the median of 1 nodes");
        drop(other);
    }
    // Nobody answers for an address that leads nowhere.
    let genesis = founded.path("genesis.json");
    let text = fs::read_to_string(&genesis).unwrap();
    let here = format!("127.0.0.1:{}", founded.first_port + 5);
    fs::write(&genesis, text.replace(&here, "192.0.2.7:7400")).unwrap();
    founded.expect(
        "peers",
        "fault",
        "node 2 is not reached at 192.0.2.7:7400",
        "firewalls",
    );
}

/// What a node of another version answers, over plain HTTP.
async fn serve(status: Value) -> String {
    let answer = axum::Router::new().route(
        "/v1/status",
        axum::routing::get(|| async { axum::Json(status) }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, answer).await });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_other_versions() {
    let founded = Founded::new();
    let mut status = serde_json::json!({
        "chain_id": "00".repeat(32), "node": 2, "height": 3, "certified_height": 3, "leader": 2,
        "halted": null, "version": env!("CARGO_PKG_VERSION"),
        "protocol": { "version": 2, "next": null, "known": 2 },
    });
    let expect = async |status: &Value, severity: &str, found: &str, remedy: &str| {
        let url = serve(status.clone()).await;
        let (finding, _) = founded.finding_with("versions", &["--node-url", &url]);
        assert_finding(&finding, severity, found, remedy);
    };
    expect(&status, "good", env!("CARGO_PKG_VERSION"), "").await;
    status["version"] = "9.1.0".into();
    expect(
        &status,
        "warning",
        "node 2 runs 9.1.0",
        "one node after the other",
    )
    .await;
    status["protocol"]["next"] = serde_json::json!({ "version": 99, "from_height": 1_000 });
    expect(
        &status,
        "fault",
        "protocol version 99 from block 1000 on",
        "newer release",
    )
    .await;
    status["protocol"] = serde_json::json!({ "version": 98, "next": null, "known": 98 });
    expect(
        &status,
        "fault",
        "protocol version 98, this",
        "newer release",
    )
    .await;
}
