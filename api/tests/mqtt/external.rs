//! Clients of other makers as programs of their own: Debian's mosquitto and paho for Python.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";

/// The credentials of a mosquitto client.
enum Proof<'a> {
    Token(&'a World, &'a str),
    Certificate(&'a World, &'a Files),
}

impl Proof<'_> {
    fn arguments(&self, version: &str) -> Vec<String> {
        let mut all: Vec<String> =
            vec!["-h".into(), "localhost".into(), "-V".into(), version.into()];
        let mut add = |more: &[&str]| all.extend(more.iter().map(|text| (*text).to_owned()));
        match self {
            Self::Token(world, id) => {
                let port = world.plain.port().to_string();
                add(&[
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &port,
                    "-i",
                    id,
                    "-u",
                    id,
                    "-P",
                    &token(id),
                ]);
            }
            Self::Certificate(world, files) => {
                let port = world.tls.port().to_string();
                let path = |name| files.path(name).to_str().unwrap().to_owned();
                let (ca, cert, key) = (path("node.pem"), path("cert.pem"), path("key.pem"));
                add(&["-p", &port, "--cafile", &ca, "--cert", &cert, "--key", &key]);
            }
        }
        all
    }
}

async fn run(program: &str, arguments: Vec<String>) -> Output {
    let child = Command::new(program)
        .args(&arguments)
        .kill_on_drop(true)
        .output();
    timeout(TIMEOUT, child)
        .await
        .unwrap_or_else(|_| panic!("{program} {arguments:?} does not end"))
        .unwrap_or_else(|error| panic!("{program}: {error}; see scripts/setup --test"))
}

fn and(mut first: Vec<String>, more: &[&str]) -> Vec<String> {
    first.extend(more.iter().map(|text| (*text).to_owned()));
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_pub_submits_transactions() {
    let world = world().await;
    let files = Files::of("gw-1");
    // A gateway that has shown its certificate is not let in by a token any more.
    for proof in [
        Proof::Token(&world, "gw-1"),
        Proof::Certificate(&world, &files),
    ] {
        for version in ["mqttv311", "mqttv5"] {
            for qos in ["0", "1", "2"] {
                let (tx, hash) = world.transaction("gw-1");
                let file = files.write("tx.json", tx);
                let file = file.to_str().unwrap();
                let more = ["-t", TX, "-q", qos, "-f", file];
                let output = run("mosquitto_pub", and(proof.arguments(version), &more)).await;
                assert!(output.status.success(), "{version} {qos}: {output:?}");
                world.until_committed(&hash).await;
            }
            let other = ["-t", "lamplighter/1/gw/gw-2/tx", "-q", "1", "-m", "x"];
            let output = run("mosquitto_pub", and(proof.arguments(version), &other)).await;
            let printed = String::from_utf8_lossy(&output.stderr).to_lowercase();
            let refused = !output.status.success() || printed.contains("not authorized");
            assert!(refused, "{version}: {output:?}");
        }
    }
    assert_eq!(world.count("admitted"), 12);
    let output = run(
        "mosquitto_pub",
        and(
            Proof::Token(&world, "gw-2").arguments("mqttv5"),
            &["-P", "no", "-t", TX, "-m", "x"],
        ),
    )
    .await;
    assert!(!output.status.success());
    let strange = Files::of("stranger");
    let arguments = Proof::Certificate(&world, &strange).arguments("mqttv5");
    let output = run(
        "mosquitto_pub",
        and(arguments, &["-t", TX, "-q", "1", "-m", "x"]),
    )
    .await;
    assert!(!output.status.success());
}

/// The one message that `mosquitto_sub` prints.
async fn subscribe_one(proof: &Proof<'_>, version: &str, topic: &str) -> Vec<u8> {
    let more = ["-q", "1", "-C", "1", "-t", topic];
    let output = run("mosquitto_sub", and(proof.arguments(version), &more)).await;
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_sub_gets_work_head_and_notifications() {
    let world = world().await;
    let (files, ann) = (Files::of("gw-1"), Files::of("ann"));
    for version in ["mqttv311", "mqttv5"] {
        for (proof, gateway) in [
            (Proof::Token(&world, "gw-2"), "gw-2"),
            (Proof::Certificate(&world, &files), "gw-1"),
        ] {
            let head = subscribe_one(&proof, version, "lamplighter/1/head").await;
            assert!(head_height(&head) > 0);
            let topic = format!("lamplighter/1/gw/{gateway}/work");
            let work = subscribe_one(&proof, version, &topic).await;
            assert_eq!(json(&work)["gateway"], gateway);
        }
        for proof in [
            Proof::Token(&world, "ann"),
            Proof::Certificate(&world, &ann),
        ] {
            let topic = "lamplighter/1/notify/device_tagged/north/+";
            let notification = subscribe_one(&proof, version, topic);
            let tagging = async {
                loop {
                    world.tag(&["lamp-1"]).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let notification = tokio::select! {
                notification = notification => notification,
                () = tagging => unreachable!(),
            };
            let place = &json(&notification)["notification"]["place"];
            assert_eq!(place["device"], "lamp-1");
        }
        let foreign = ["-q", "1", "-C", "1", "-t", "lamplighter/1/gw/gw-1/work"];
        let output = run(
            "mosquitto_sub",
            and(Proof::Token(&world, "gw-2").arguments(version), &foreign),
        );
        let output = output.await;
        let printed = [output.stdout, output.stderr].concat();
        assert!(
            String::from_utf8_lossy(&printed).contains("denied"),
            "{version}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paho_uses_all_of_it_over_plain_tcp_and_tls() {
    let world = world().await;
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    assert!(
        python.exists(),
        "no {}: run scripts/setup --test",
        python.display()
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mqtt/paho_client.py");
    let files = Files::of("gw-1");
    for n in 0..12 {
        let (tx, hash) = world.transaction("gw-1");
        files.write(&format!("tx-{n}.json"), tx);
        files.write(&format!("tx-{n}.hash"), hash.to_string());
    }
    let child = Command::new(python)
        .arg(script)
        .args([
            world.plain.port().to_string(),
            world.tls.port().to_string(),
            token("gw-1"),
        ])
        .arg(files.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = timeout(TIMEOUT * 2, child)
        .await
        .expect("paho does not end")
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(printed.matches("ok ").count(), 4, "{printed}");
    // 3 transactions of each of the four runs, QoS 2 among them, each once.
    assert_eq!(world.count("admitted"), 12);
}

/// The checks of Eclipse paho's interoperability tests in `interoperability.py`, by version.
const CHECKS: [usize; 2] = [12, 27];
const TRANSACTIONS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn the_interoperability_tests_of_paho_hold_as_far_as_topics_allow() {
    let world = world().await;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = Files::of("gw-1");
    for n in 0..TRANSACTIONS {
        let (tx, hash) = world.transaction("gw-1");
        files.write(&format!("tx-{n}.json"), tx);
        files.write(&format!("tx-{n}.hash"), hash.to_string());
    }
    let child = Command::new(manifest.join("../.venv/bin/python"))
        .arg(manifest.join("tests/mqtt/interoperability.py"))
        .args([world.plain.port().to_string(), token("gw-1"), token("ann")])
        .arg(files.dir.path())
        .kill_on_drop(true)
        .output();
    // A head, and a notification of the device of ann's district, with each block.
    let blocks = async {
        loop {
            world.tag(&["lamp-1"]).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let output = tokio::select! {
        output = timeout(TIMEOUT * 4, child) => output.expect("paho does not end").unwrap(),
        () = blocks => unreachable!(),
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let count = |version: u8| {
        let end = format!(" {version}");
        let held = printed.lines().filter(|line| line.starts_with("ok "));
        held.filter(|line| line.ends_with(&end)).count()
    };
    assert_eq!([count(4), count(5)], CHECKS, "{printed}\n{errors}");
    for line in printed.lines().filter_map(|l| l.strip_prefix("will ")) {
        world.until_committed(&line.parse().unwrap()).await;
    }
}
