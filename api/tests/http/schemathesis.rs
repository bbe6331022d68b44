//! A stranger that knows a node by its description alone: schemathesis tries every operation with
//! what the description permits and with what it excludes, and finds no status, media type, header
//! or body that is not described, nothing valid that is refused, and nothing else that is accepted.
//!
//! Its requests are the same in each run. `schemathesis.toml` says what it can't know.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lamplighter_tls::Identity;
use tokio::process::Command;

use crate::described;
use crate::node::{Node, node_key};
use crate::scenario::{self, Client, printed};

/// It takes 35 s on two idle cores, 60 s on busy ones; only a failing test gets there.
const TIME: Duration = Duration::from_secs(240);
/// Fewer would mean that it no longer tries all operations in all ways.
const CASES_MIN: usize = 2_000;

/// A file beside this one.
fn beside(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/http")
        .join(name)
}

/// What schemathesis prints about a node, and whether it was content.
async fn schemathesis(node: &Node) -> (String, bool) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/schemathesis");
    let identity = Identity::of_node(&node_key(), 1, &[], &[]).unwrap();
    let certificate = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(certificate.path(), identity.to_pem()).unwrap();
    let child = Command::new(&program)
        .arg("--config-file")
        .arg(beside("schemathesis.toml"))
        .args(["run", "--no-color", "--phases", "examples,coverage,fuzzing"])
        .arg("--tls-verify")
        .arg(certificate.path())
        .args(["--header", &format!("Authorization: Bearer {}", node.token)])
        .arg(format!("{}/openapi.json", node.base()))
        .env("SCHEMATHESIS_HOOKS", beside("schemathesis_hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TIME, child).await;
    let output = output.unwrap_or_else(|_| panic!("it takes longer than {TIME:?}"));
    let output =
        output.unwrap_or_else(|e| panic!("{}: {e}; see scripts/setup --test", program.display()));
    let printed = [output.stdout, output.stderr].concat();
    (
        String::from_utf8_lossy(&printed).into_owned(),
        output.status.success(),
    )
}

/// The number of cases in "2841 generated, 2700 passed".
fn cases(printed: &str) -> usize {
    let before = printed.split(" generated").next().unwrap();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap().parse().expect("it prints how many it made")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_finds_no_answer_that_is_not_described() {
    let node = scenario::node().await;
    let mut client = Client::default();
    for step in printed() {
        client.send(&node, &step).await.ok();
    }
    described::upload(&node).await;
    let (printed, is_content) = schemathesis(&node).await;
    assert!(is_content, "{printed}");
    assert!(cases(&printed) > CASES_MIN, "{printed}");
    println!("{} cases", cases(&printed));
    node.stop().await;
}
