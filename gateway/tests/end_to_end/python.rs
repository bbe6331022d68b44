//! `docs/examples/gateway.py`, a gateway that was written after the documents alone, with a real
//! node.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use lamplighter_tls::Identity;
use lamplighter_types::DeploymentState;
use tokio::process::Command;

use crate::city::{City, id, secret};

/// Longest run of the program; only a failing test gets there.
const TIME: Duration = Duration::from_secs(90);
const DEVICES: [&str; 2] = ["foreign-1", "foreign-2"];

fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs the program until it ends by itself; returns what it printed, and whether it succeeded.
async fn run(city: &City, genesis: &str) -> (String, bool) {
    let (edges, dir) = (&city.node.edges, city.dir.path());
    let addresses = [edges.http.ip()];
    let node = Identity::of_node(&secret("node-1"), 1, &addresses, &[]).unwrap();
    std::fs::write(dir.join("nodes.pem"), node.to_pem()).unwrap();
    let log = dir.join("gateway.log");
    let to_log = || {
        File::options()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap()
    };
    let mut program = Command::new(repository().join(".venv/bin/python"));
    program
        .arg(repository().join("docs/examples/gateway.py"))
        .args(["--account", "gw", "--once", "--key"])
        .arg(dir.join("gw.key"))
        .arg("--genesis")
        .arg(dir.join(genesis))
        .arg("--http")
        .arg(format!("https://{}", edges.http))
        .arg("--mqtt")
        .arg(format!("mqtts://{}", edges.mqtt[1]))
        .arg("--ca")
        .arg(dir.join("nodes.pem"))
        .arg("--trusted")
        .arg(dir.join("trusted.json"))
        .arg("--images")
        .arg(dir.join("images"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(to_log())
        .stderr(to_log())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(TIME, program.status()).await;
    let printed = std::fs::read_to_string(&log).unwrap();
    let ended = ended.unwrap_or_else(|_| panic!("it does not end: {printed}"));
    let ended = ended.expect("scripts/setup --test installs Python");
    (printed, ended.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_after_the_documents_alone_brings_devices_to_confirmed() {
    let city = City::build(&DEVICES).await;
    city.release().await;
    city.roll_out().await;
    let (printed, succeeded) = run(&city, "genesis.json").await;
    assert!(succeeded, "{printed}");
    let client = city.client("operator");
    for name in DEVICES {
        let deployment = city.deployment(name).await.unwrap();
        assert_eq!(deployment.state, DeploymentState::Confirmed, "{printed}");
        let image = std::fs::read(city.dir.path().join("images").join(name)).unwrap();
        assert!(image == city.image, "{name} has other bytes");
        let events = client.device_events(&id(name), None).await.unwrap().value;
        let sent: Vec<_> = events.items.iter().map(|e| &e.record.event).collect();
        assert_eq!((sent.len(), &*sent[0].data), (1, "fw-2"), "{printed}");
        for step in ["offered", "installing", "confirmed", "event"] {
            let line = format!("proven: {name} {step} in block");
            assert!(printed.contains(&line), "no {line:?} in {printed}");
        }
    }
    assert!(!printed.contains("not believed"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_speaks_to_no_node_of_another_ledger() {
    let city = City::build(&DEVICES[..1]).await;
    let mut other = city.genesis.clone();
    other.name = "Another City".to_owned();
    let path = city.dir.path().join("other.json");
    std::fs::write(path, serde_json::to_vec(&other).unwrap()).unwrap();
    let (printed, succeeded) = run(&city, "other.json").await;
    assert!(!succeeded, "{printed}");
    assert!(printed.contains("of another chain"), "{printed}");
}
