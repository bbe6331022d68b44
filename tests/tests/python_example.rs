//! `docs/examples/submit.py`, which shows how to sign in another language, makes transactions that
//! our own code takes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use lamplighter_tests::{python, repository};
use lamplighter_types::{Hash, SecretKey, SignedTransaction};

const ACTION: &str = r#"{"events": {"acknowledge":
    {"alarm": {"device": "lamp-1", "sequence": 7}, "comment": "crew „Süd“ is on its way"}}}"#;

fn submit(action: &str, key: &str, chain: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, format!("{key}\n")).unwrap();
    let mut program = Command::new(python())
        .arg(repository().join("docs/examples/submit.py"))
        .args([
            "--sender",
            "anna",
            "--sequence",
            "5",
            "--print",
            "--chain-id",
            chain,
            "--key",
        ])
        .arg(&key_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program
        .stdin
        .take()
        .unwrap()
        .write_all(action.as_bytes())
        .unwrap();
    program.wait_with_output().unwrap()
}

#[test]
fn a_transaction_signed_in_python_is_verified_and_decoded() {
    let chain = Hash::of(b"chain");
    let secret = SecretKey::from_seed([7; 32]);
    let output = submit(ACTION, &"07".repeat(32), &chain.to_string());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let signed: SignedTransaction = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(signed.key, secret.public());
    let verified = signed.clone().verify(&chain).unwrap();
    assert_eq!(verified.get().sender.as_str(), "anna");
    assert_eq!(verified.get().sequence, 5);
    let action = serde_json::to_value(&verified.get().action).unwrap();
    assert_eq!(
        action,
        serde_json::from_str::<serde_json::Value>(ACTION).unwrap()
    );

    assert!(signed.verify(&Hash::of(b"another chain")).is_err());
}

#[test]
fn a_key_file_that_is_none_is_an_error() {
    let output = submit(ACTION, "not hexadecimal", &Hash::ZERO.to_string());
    assert!(!output.status.success());
}
