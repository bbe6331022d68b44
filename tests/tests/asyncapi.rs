//! `docs/asyncapi.yaml` is valid AsyncAPI 3 and has every topic of the MQTT edge.

use std::process::Command;

use lamplighter_tests::repository;

const TOPICS: [&str; 6] = [
    "lamplighter/1/gw/{gateway}/receipt",
    "lamplighter/1/gw/{gateway}/sync",
    "lamplighter/1/gw/{gateway}/tx",
    "lamplighter/1/gw/{gateway}/work",
    "lamplighter/1/head",
    "lamplighter/1/notify/{kind}/{district}/{device}",
];

#[test]
fn the_document_is_valid_and_complete() {
    let output = Command::new("node")
        .args(["tests/asyncapi/check.mjs", "docs/asyncapi.yaml"])
        .current_dir(repository())
        .output()
        .expect("node is installed by scripts/setup --test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("AsyncAPI 3.0.0"));
    let mut topics: Vec<&str> = lines.collect();
    topics.sort_unstable();
    assert_eq!(topics, TOPICS);
}
