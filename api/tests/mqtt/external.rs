//! Clients of other makers as programs of their own: Debian's mosquitto and paho for Python.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::support::*;

const TX: &str = "lamplighter/1/gw/gw-1/tx";

/// How a mosquitto client proves who it is.
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
    timeout(PATIENCE, child)
        .await
        .unwrap_or_else(|_| panic!("{program} {arguments:?} does not end"))
        .unwrap_or_else(|error| panic!("{program}: {error}; see scripts/setup --test"))
}

fn and(mut first: Vec<String>, more: &[&str]) -> Vec<String> {
    first.extend(more.iter().map(|text| (*text).to_owned()));
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_pub_hands_transactions_in() {
    let world = world();
    let files = Files::of("gw-1");
    let mut handed = 0;
    // A gateway that has shown its certificate is not let in by a token any more.
    for proof in [
        Proof::Token(&world, "gw-1"),
        Proof::Certificate(&world, &files),
    ] {
        for version in ["mqttv311", "mqttv5"] {
            for qos in ["0", "1", "2"] {
                let text = format!("{version} qos {qos}");
                let more = ["-t", TX, "-q", qos, "-m", &text];
                let output = run("mosquitto_pub", and(proof.arguments(version), &more)).await;
                assert!(output.status.success(), "{text}: {output:?}");
                handed += 1;
                world
                    .ledger
                    .until(&text, |l| l.taken_by("gw-1").len() == handed)
                    .await;
            }
            let other = ["-t", "lamplighter/1/gw/gw-2/tx", "-q", "1", "-m", "x"];
            let output = run("mosquitto_pub", and(proof.arguments(version), &other)).await;
            let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
            let refused = !output.status.success() || said.contains("not authorized");
            assert!(refused, "{version}: {output:?}");
        }
    }
    assert_eq!(world.ledger.taken_by("gw-2").len(), 0);
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

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_sub_gets_work_receipts_head_and_notifications() {
    let world = world();
    world.publisher.publish_head("the head".into()).unwrap();
    let (files, ann) = (Files::of("gw-1"), Files::of("ann"));
    for version in ["mqttv311", "mqttv5"] {
        for (proof, gateway) in [
            (Proof::Token(&world, "gw-2"), "gw-2"),
            (Proof::Certificate(&world, &files), "gw-1"),
        ] {
            let topics = [
                "lamplighter/1/head",
                &format!("lamplighter/1/gw/{gateway}/work"),
            ];
            let more = ["-q", "1", "-C", "2", "-v", "-t", topics[0], "-t", topics[1]];
            let output = run("mosquitto_sub", and(proof.arguments(version), &more)).await;
            let text = String::from_utf8(output.stdout).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            let work = format!("{} work since the start", topics[1]);
            assert_eq!(lines, [work, format!("{} the head", topics[0])]);
        }
        for proof in [
            Proof::Token(&world, "ann"),
            Proof::Certificate(&world, &ann),
        ] {
            let more = [
                "-q",
                "1",
                "-C",
                "1",
                "-t",
                "lamplighter/1/notify/alarm/north/+",
            ];
            let sub = tokio::spawn(run("mosquitto_sub", and(proof.arguments(version), &more)));
            let told = async {
                while !sub.is_finished() {
                    world
                        .publisher
                        .notify("alarm", "north", "lamp", "dark".into())
                        .unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, told).await.unwrap();
            assert_eq!(sub.await.unwrap().stdout, b"dark\n");
        }
        let foreign = ["-q", "1", "-C", "1", "-t", "lamplighter/1/gw/gw-1/work"];
        let output = run(
            "mosquitto_sub",
            and(Proof::Token(&world, "gw-2").arguments(version), &foreign),
        );
        let output = output.await;
        let said = [output.stdout, output.stderr].concat();
        assert!(
            String::from_utf8_lossy(&said).contains("denied"),
            "{version}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paho_uses_all_of_it_over_plain_tcp_and_tls() {
    let world = world();
    world.ledger.receipts.store(true, Ordering::Relaxed);
    world.publisher.publish_head("the head".into()).unwrap();
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    assert!(
        python.exists(),
        "no {}: run scripts/setup --test",
        python.display()
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mqtt/paho_client.py");
    let files = Files::of("gw-1");
    let folder: PathBuf = files.dir.path().to_owned();
    let child = Command::new(python)
        .arg(script)
        .args([
            world.plain.port().to_string(),
            world.tls.port().to_string(),
            token("gw-1"),
        ])
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE * 2, child)
        .await
        .expect("paho does not end")
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(said.matches("ok ").count(), 4, "{said}");
    // 3 transactions of each of the four runs, QoS 2 among them, each once.
    assert_eq!(world.ledger.taken_by("gw-1").len(), 12);
}
