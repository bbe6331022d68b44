//! `/v1/transactions`: accepted and refused submissions, and their answers.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lamplighter_ledger::{LedgerConfig, MempoolLimits};
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::{Encoding, Hash, HexBytes, SignedTransaction, codec};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::node::{Node, STEP_TIMEOUT, admin, id, now_ms};

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_gets_its_receipt() {
    let node = Node::start().await;
    let signed = node.sign(node.organization("north"));
    let first = node.submit(&signed, "").await.ok();
    let hash = signed.hash(&node.genesis.chain_id()).to_string();
    assert_eq!(first["transaction"], hash.as_str());
    assert_eq!(first["receipt"]["transaction"], hash.as_str());
    assert_eq!(first["receipt"]["outcome"], "succeeded");
    assert!(
        first["height"].as_u64().unwrap() > 0 && first["index"] == 0,
        "{first}"
    );

    let again = node.submit(&signed, "?wait=certified").await.ok();
    assert_eq!(again["certified"], true);
    for field in ["transaction", "height", "index", "receipt"] {
        assert_eq!(
            again[field], first[field],
            "the same bytes get the same answer"
        );
    }
    let asked = node.get(&format!("/v1/transactions/{hash}")).await.ok();
    for field in ["transaction", "height", "index", "certified", "receipt"] {
        assert_eq!(asked[field], again[field], "{asked}");
    }

    let octets = node.sign(node.organization("south"));
    let taken = node.post(OCTETS, codec::encode(&octets)).await.ok();
    assert_eq!(taken["receipt"]["outcome"], "succeeded");

    let bincode = node.transaction(node.organization("east"));
    let chain_id = node.genesis.chain_id();
    let bincode = SignedTransaction::sign(&bincode, Encoding::Bincode, &chain_id, &admin());
    assert_eq!(
        node.submit(&bincode, "").await.ok()["receipt"]["outcome"],
        "succeeded"
    );

    let failing = node
        .submit(&node.sign(node.organization("north")), "")
        .await
        .ok();
    assert_eq!(
        failing["receipt"]["outcome"]["failed"]["code"],
        "users.organization_exists"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_need_not_wait() {
    let node = Node::start().await;
    let signed = node.sign(node.organization("north"));
    let taken = node.submit(&signed, "?wait=none").await;
    assert_eq!(taken.status, 202);
    let fields: Vec<_> = taken.json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["certified", "transaction"], "nothing is known yet");
    let known = node
        .submit(&signed, "?wait=committed&timeout_ms=20000")
        .await;
    assert_eq!(known.status, 200);
    node.submit(&signed, "?wait=for_ever")
        .await
        .assert_problem(400, "parameter");
    node.submit(&signed, "?patience=1")
        .await
        .assert_problem(400, "parameter");
    let nothing = format!("/v1/transactions/{}", Hash::ZERO);
    node.get(&nothing).await.assert_problem(404, "not_found");
    node.stop().await;
}

/// The validators sign one header in 50 ms, and every one while a caller waits for a certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_does_not_switch_the_pace_off() {
    let node = Node::start().await;
    let mut forged = node.sign(node.organization("forged"));
    forged.signature.0[0] ^= 1;
    let lines = serde_json::to_string(&forged).unwrap() + "\n{}\n";
    let before = node.demands();
    // A demand is announced again after half a second.
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        let answer = node.submit(&forged, "?wait=certified").await;
        answer.assert_problem(400, "transaction.invalid");
        let path = "/v1/submissions?wait=certified";
        let request = node.open(Method::POST, path).body(lines.clone());
        let request = request.header(CONTENT_TYPE, "application/x-ndjson");
        let text = request.send().await.unwrap().text().await.unwrap();
        assert_eq!(text.matches("\"status\":400").count(), 4, "{text}");
    }
    assert_eq!(node.demands(), before);
    let signed = node.sign(node.organization("north"));
    node.submit(&signed, "?wait=certified").await.ok();
    let announced = async {
        while node.demands() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(STEP_TIMEOUT, announced).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_transactions_are_refused() {
    let node = Node::start().await;
    let signed = node.sign(node.organization("north"));
    let text = serde_json::to_string(&signed).unwrap();
    let malformed = "transaction.malformed";

    node.post(JSON, "").await.assert_problem(400, malformed);
    node.post(JSON, "{").await.assert_problem(400, malformed);
    node.post(JSON, format!("{text} x"))
        .await
        .assert_problem(400, malformed);
    let unknown = text.replacen('{', r#"{"priority":1,"#, 1);
    node.post(JSON, unknown)
        .await
        .assert_problem(400, malformed);
    let twice = text.replacen('{', r#"{"encoding":"json","#, 1);
    node.post(JSON, twice).await.assert_problem(400, malformed);
    let upper = text.replace(
        &signed.key.to_string(),
        &signed.key.to_string().to_uppercase(),
    );
    node.post(JSON, upper).await.assert_problem(400, malformed);
    let mut octets = codec::encode(&signed);
    octets.push(0);
    node.post(OCTETS, octets.clone())
        .await
        .assert_problem(400, malformed);
    octets.truncate(octets.len() - 2);
    node.post(OCTETS, octets)
        .await
        .assert_problem(400, malformed);
    node.post("text/plain", text.clone())
        .await
        .assert_problem(415, "content_type");

    let huge = vec![b' '; TRANSACTION_BYTES_MAX * 2 + 4_096 + 1];
    node.post(JSON, huge)
        .await
        .assert_problem(413, "body.too_large");
    let mut long = signed.clone();
    long.payload = HexBytes(vec![b' '; TRANSACTION_BYTES_MAX + 1]);
    node.submit(&long, "")
        .await
        .assert_problem(400, "transaction.invalid");

    assert_eq!(
        node.post(JSON, text).await.ok()["receipt"]["outcome"],
        "succeeded"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_of_another_time_or_chain_are_refused() {
    let node = Node::start().await;
    let chain_id = node.genesis.chain_id();
    let transaction = node.transaction(node.organization("north"));
    let invalid = "transaction.invalid";

    let other_chain = node.sign_for(&transaction, &Hash::of(b"another"));
    node.submit(&other_chain, "")
        .await
        .assert_problem(400, invalid);
    let good = node.sign_for(&transaction, &chain_id);
    for position in [0, good.payload.0.len() / 2, good.payload.0.len() - 1] {
        let mut changed = good.clone();
        changed.payload.0[position] ^= 1;
        node.submit(&changed, "").await.assert_problem(400, invalid);
    }
    let mut resigned = good.clone();
    resigned.signature.0[0] ^= 1;
    node.submit(&resigned, "")
        .await
        .assert_problem(400, invalid);

    let mut expired = node.transaction(node.organization("north"));
    expired.expires_ms = now_ms() - 60_000;
    let expired = node.sign_for(&expired, &chain_id);
    node.submit(&expired, "")
        .await
        .assert_problem(422, "admission.expired");
    let mut stranger = transaction.clone();
    stranger.sender = id("node-1");
    let stranger = node.sign_for(&stranger, &chain_id);
    node.submit(&stranger, "")
        .await
        .assert_problem(422, "admission.not_your_key");

    node.submit(&good, "").await.ok();
    let mut reused = transaction.clone();
    reused.action = node.organization("south");
    let reused = node.sign_for(&reused, &chain_id);
    node.submit(&reused, "")
        .await
        .assert_problem(422, "admission.sequence_used");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_certificate_is_a_deadline() {
    let node = Node::start_without_certificates().await;
    let signed = node.sign(node.organization("north"));
    let answer = node
        .submit(&signed, "?wait=certified&timeout_ms=1000")
        .await;
    answer.assert_problem(504, "deadline");
    let detail = answer.json["detail"].as_str().unwrap();
    assert!(detail.contains("was not certified within"), "{detail}");
    assert!(!detail.contains("not reached"), "{detail}");
    // It has happened all the same.
    let done = node.submit(&signed, "").await.ok();
    assert_eq!(
        (&done["receipt"]["outcome"], &done["certified"]),
        (&Value::from("succeeded"), &Value::from(false))
    );
    let read = "/v1/organizations/north?proof=true";
    let answer = node.get(read).await;
    answer.assert_problem(504, "deadline");
    let detail = answer.json["detail"].as_str().unwrap();
    assert!(detail.contains("was not certified within"), "{detail}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_is_busy() {
    let mut config = LedgerConfig::new(1);
    config.mempool = MempoolLimits {
        transactions_max: 0,
        ..MempoolLimits::default()
    };
    let node = Node::start_with(config).await;
    let answer = node
        .submit(&node.sign(node.organization("north")), "")
        .await;
    answer.assert_problem(503, "busy");
    assert_eq!(answer.header("retry-after"), "1");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_example_gets_its_receipt() {
    let node = Node::start().await;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "c8".repeat(32)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("node.pem");
    std::fs::write(&certificate, &node.certificate).unwrap();
    let mut program = Command::new(format!("{root}/.venv/bin/python"))
        .arg(format!("{root}/docs/examples/submit.py"))
        .args(["--node", &node.base(), "--cacert"])
        .arg(&certificate)
        .args(["--sender", "admin", "--key"])
        .arg(key.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/setup --test makes .venv");
    let action = r#"{"users": {"register_organization":
        {"organization": "harbour", "name": "Hafen „Süd“"}}}"#;
    program
        .stdin
        .take()
        .unwrap()
        .write_all(action.as_bytes())
        .await
        .unwrap();
    let output = program.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["receipt"]["outcome"], "succeeded", "{answer}");
    let found = node.get("/v1/organizations/harbour").await.ok();
    assert_eq!(found["record"]["name"], "Hafen „Süd“");
    node.stop().await;
}
