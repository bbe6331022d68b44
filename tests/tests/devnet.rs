//! The commands of the demonstration, end to end with a real image: 4 validators, 2 gateways and 20
//! Things as processes.

use std::process::{Command, Output};

use lamplighter_tests::{FIRMWARE_IMAGES, lamplighter};
use lamplighter_types::Hash;
use serde_json::Value;

/// What must be refused, as the report names it.
const ATTACKS: [&str; 45] = [
    "the same transaction sent again",
    "a sequence number used again",
    "an expired transaction",
    "a transaction signed for another chain",
    "a transaction with one byte changed",
    "a transaction with trailing bytes",
    "a signed payload with trailing bytes",
    "a transaction over the size limit",
    "a configuration by a user without the role",
    "an envelope with an unknown field",
    "an envelope with a doubled field",
    "a signed payload with an unknown field",
    "a signed payload with a doubled field",
    "bytes that are no JSON",
    "bytes that are no transaction",
    "JSON nested 100,000 deep",
    "a header with too few signatures",
    "a header with a doubled signature",
    "a header with a foreign signature",
    "a header with another time",
    "a proof with one bit of its record changed",
    "a release signed by an unregistered key",
    "a manifest that was not signed",
    "a release signed by a revoked key",
    "a release approved by its author",
    "a second approval by the same person",
    "a rollout of a release that one person approved",
    "a release with a lower security counter",
    "a release for another hardware class",
    "an event with a used sequence number",
    "an event signed by another key",
    "an event for a device of another gateway",
    "an event from an unregistered gateway",
    "a transaction in another account's name",
    "a gateway that connects without a token",
    "a gateway that connects with a made-up token",
    "a subscription to another gateway's work",
    "a publication on another gateway's topic",
    "one flipped bit at the artifact store",
    "one flipped bit at the gateway",
    "one flipped bit at the Thing",
    "a node that is not on the allow-list",
    "a validator's id with another key",
    "a data directory of another chain",
    "one transaction more than the pool holds",
];

fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    let steps = report["steps"].as_array().unwrap();
    let found = steps.iter().find(|step| step["step"] == name);
    let found = found.unwrap_or_else(|| panic!("no step {name}: {report:#}"));
    assert_eq!(found["held"], true, "{found:#}");
    &found["figure"]
}

fn told(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[test]
fn a_release_reaches_every_thing_and_every_attack_is_refused() {
    let image =
        std::fs::read(FIRMWARE_IMAGES[1]).expect("scripts/setup --test installs the images");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(lamplighter())
        .args([
            "devnet",
            "up",
            "--validators",
            "4",
            "--gateways",
            "2",
            "--things",
            "20",
        ])
        .args(["--firmware", FIRMWARE_IMAGES[1], "--once", "--dir"])
        .arg(folder.path().join("city"))
        .arg("--report")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(report["held"], true);
    assert_eq!(step(&report, "rollout")["deployments"]["confirmed"], 20);
    let digest = Hash::of(&image).to_string();
    let things = step(&report, "images")["things"].as_object().unwrap();
    assert_eq!(things.len(), 20);
    for (device, held) in things {
        assert_eq!(held["digest"], digest, "{device}");
        assert_eq!(held["bytes"], image.len(), "{device}");
    }
    assert!(step(&report, "head")["signers"].as_array().unwrap().len() >= 3);
    let counts = &step(&report, "events")["by_kind"];
    assert_eq!(counts["alarm_raised"], 1);
    assert_eq!(counts["config_reported"], 20);
    let attacks = report["attacks"].as_array().unwrap();
    let names: Vec<_> = attacks
        .iter()
        .map(|a| a["attack"].as_str().unwrap())
        .collect();
    assert_eq!(names, ATTACKS);
    assert!(
        attacks.iter().all(|attack| attack["refused"] == true),
        "{attacks:#?}"
    );
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter.txt");
    std::fs::write(&letter, "mine").unwrap();
    let mut command = Command::new(lamplighter());
    let output = command
        .args(["devnet", "up", "--once", "--dir"])
        .arg(folder.path())
        .output();
    let output = output.unwrap();
    assert!(!output.status.success());
    assert!(
        told(&output).contains("no devnet made"),
        "{}",
        told(&output)
    );
    assert_eq!(std::fs::read(&letter).unwrap(), b"mine");
}
