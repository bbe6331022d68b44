//! A ledger executes every action that the document shows, and every kind of action is shown.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use lamplighter_contracts::rollouts::transitions::is_reportable;
use lamplighter_types::{DeploymentState, Domain, Encoding, SignedTransaction, Transaction};
use serde_json::{Value, json};

use crate::node::id;
use crate::scenario::{self, BEGIN_MS, Client, Step, genesis, path, printed, secret};
use crate::schemas::{Cases, OPENAPI, openapi, pointer};

/// Writes a file of examples if `UPDATE_GOLDEN` is set, and asserts that it is up to date.
#[track_caller]
fn golden(name: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path(name), text).unwrap();
    }
    let found = std::fs::read_to_string(path(name)).unwrap();
    assert!(
        found == text,
        "{name} is out of date: UPDATE_GOLDEN=1 rewrites it"
    );
}

#[test]
fn digests_and_signatures_of_the_examples_are_right() {
    let line = |step: &Step| format!("  {}", serde_json::to_string(step).unwrap());
    let lines: Vec<_> = scenario::computed().iter().map(line).collect();
    golden("actions.json", &format!("[\n{}\n]\n", lines.join(",\n")));
}

/// The first transaction of the scenario with all inputs of its signature and hash.
#[test]
fn the_transaction_of_the_page_has_a_valid_signature() {
    let chain = genesis().chain_id();
    let transaction = Transaction {
        sender: id("ada"),
        sequence: 1,
        expires_ms: BEGIN_MS + 3_600_000,
        action: serde_json::from_value(printed()[0]["action"].clone()).unwrap(),
    };
    let signed = SignedTransaction::sign(&transaction, Encoding::Json, &chain, &secret("ada"));
    let bytes = signed.signing_bytes(&chain);
    let payload = serde_json::to_string(&transaction).unwrap();
    let parts: [&[u8]; 5] = [
        b"lamplighter/transaction/1\0",
        &chain.0,
        &signed.key.0,
        &[0],
        payload.as_bytes(),
    ];
    assert_eq!(bytes, parts.concat());
    assert_eq!(Domain::Transaction.prefix(), parts[0]);
    let vector = json!({
        "chain_id": chain,
        "seed": hex::encode(secret("ada").seed()),
        "transaction": transaction,
        "payload": payload,
        "signed_bytes": hex::encode(&bytes),
        "hash": signed.hash(&chain),
        "signed": signed,
    });
    golden("transaction.json", &format!("{vector:#}\n"));
    let page = std::fs::read_to_string(path("../api.md")).unwrap();
    for field in ["chain_id", "seed", "payload", "hash"] {
        let text = vector[field].as_str().unwrap();
        assert!(page.contains(text), "docs/api.md: {field} should be {text}");
    }
    for value in [signed.key.to_string(), signed.signature.to_string()] {
        assert!(page.contains(&value), "docs/api.md lacks {value}");
    }
}

/// The formats in `docs/formats.md` suffice to sign all messages of Things.
#[test]
fn the_example_for_things_signs_as_the_library() {
    let kinds = [
        ("/events/append/events", "DeviceEvent"),
        ("/rollouts/report/reports", "DeploymentReport"),
        ("/devices/report_inventory/reports", "InventoryReport"),
        ("/config/report/reports", "ConfigReport"),
    ];
    let page = std::fs::read_to_string(path("../formats.md")).unwrap();
    let mut signed = BTreeSet::new();
    for step in printed() {
        for (list, kind) in kinds {
            let list = step["action"].pointer(list).and_then(Value::as_array);
            for value in list
                .into_iter()
                .flatten()
                .filter(|v| v["signature"].is_string())
            {
                let output: Value = serde_json::from_str(&thing(kind, value, false)).unwrap();
                assert_eq!(output["signature"], value["signature"], "{kind}");
                if signed.insert(kind) && kind == "DeviceEvent" {
                    assert!(page.contains(value["signature"].as_str().unwrap()));
                    assert_parts_are_documented(&page, thing(kind, value, true).trim());
                }
            }
        }
    }
    assert_eq!(signed.len(), kinds.len());
    let key = lamplighter_contracts::devices::keys::device(&id("lamp-1"));
    assert!(page.contains(&hex::encode(key.as_bytes())));
}

/// The page lists the transitions of deployments and the domains of signatures.
#[test]
fn the_page_has_every_step_and_every_domain() {
    use DeploymentState::*;
    const ALL: [DeploymentState; 19] = [
        Assigned,
        Offered,
        WaitingConsent,
        Postponed,
        WaitingWindow,
        Downloading,
        Downloaded,
        Installing,
        Staged,
        Trial,
        Confirmed,
        Reverted,
        Failed,
        Rejected,
        TimedOut,
        Cancelled,
        Superseded,
        Removed,
        NotNeeded,
    ];
    let page = std::fs::read_to_string(path("../formats.md")).unwrap();
    let steps = page.split_once("### Steps of a deployment").unwrap().1;
    let rows = steps.lines().skip_while(|line| !line.starts_with("|---"));
    let rows: Vec<Vec<&str>> = rows
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for (from, to) in ALL.iter().flat_map(|from| ALL.map(|to| (*from, to))) {
        let name = |state| {
            serde_json::to_value(state)
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned()
        };
        let is_documented = rows.iter().any(|row| {
            let is_from = match row[1] {
                "any that is not an end" => !from.is_end(),
                list => list.split(", ").any(|one| one == name(from)),
            };
            is_from && row[2] == name(to)
        });
        assert_eq!(is_documented, is_reportable(from, to), "{from:?} to {to:?}");
    }
    let domains = [
        Domain::Transaction,
        Domain::Attestation,
        Domain::Release,
        Domain::DeviceReport,
        Domain::DeviceEvent,
        Domain::KeyPossession,
        Domain::Token,
    ];
    for domain in domains {
        let prefix = domain.prefix().strip_suffix(b"\0").unwrap();
        let text = format!("`{}`", std::str::from_utf8(prefix).unwrap());
        assert!(page.contains(&text), "{text}");
    }
}

/// Asserts that the first column of a table of the page has all bytes of a message in a row.
fn assert_parts_are_documented(page: &str, message: &str) {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split('|').next());
    let parts = cells.flat_map(|cell| cell.split('`'));
    let is_hex = |part: &&str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let documented: String = parts.map(str::trim).filter(is_hex).collect();
    assert!(
        documented.contains(message),
        "docs/formats.md should have {message}, it has {documented}"
    );
}

/// Runs the example of a Thing on a value without its signature.
fn thing(kind: &str, value: &Value, message: bool) -> String {
    let mut unsigned = value.clone();
    unsigned.as_object_mut().unwrap().remove("signature");
    let key = tempfile::NamedTempFile::new().unwrap();
    let device = value["device"].as_str().unwrap();
    std::fs::write(key.path(), hex::encode(secret(device).seed())).unwrap();
    let mut program = Command::new(path("../../.venv/bin/python"))
        .arg(path("thing.py"))
        .args([
            "--type",
            kind,
            "--chain-id",
            &genesis().chain_id().to_string(),
        ])
        .args(message.then_some("--message"))
        .arg("--key")
        .arg(key.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/setup --test makes .venv");
    let mut input = program.stdin.take().unwrap();
    input.write_all(unsigned.to_string().as_bytes()).unwrap();
    drop(input);
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_executes_every_documented_action() {
    let node = scenario::node().await;
    let mut client = Client::default();
    for step in printed() {
        let answer = client.send(&node, &step).await.ok();
        assert_eq!(
            answer["receipt"]["outcome"], "succeeded",
            "{step}: {answer}"
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signed_transaction_of_the_page_is_accepted() {
    let node = scenario::node().await;
    let text = std::fs::read_to_string(path("transaction.json")).unwrap();
    let vector: Value = serde_json::from_str(&text).unwrap();
    let signed: SignedTransaction = serde_json::from_value(vector["signed"].clone()).unwrap();
    let answer = node.submit(&signed, "").await.ok();
    assert_eq!(answer["receipt"]["outcome"], "succeeded", "{answer}");
    assert_eq!(answer["transaction"], vector["hash"]);
    node.stop().await;
}

const PREFIX: &str = "#/components/schemas/";

/// The types that are parts of `name`, itself included.
fn parts<'a>(schemas: &'a Value, name: &'a str, found: &mut BTreeSet<&'a str>) {
    fn visit<'a>(schemas: &'a Value, value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                let name = fields
                    .get("$ref")
                    .and_then(|r| r.as_str()?.strip_prefix(PREFIX));
                if let Some(name) = name {
                    parts(schemas, name, found);
                }
                let fields = fields.iter().filter(|(name, _)| *name != "examples");
                fields.for_each(|(_, value)| visit(schemas, value, found));
            }
            Value::Array(items) => items.iter().for_each(|v| visit(schemas, v, found)),
            _ => {}
        }
    }
    if found.insert(name) {
        visit(schemas, &schemas[name], found);
    }
}

/// The variants of an enum that have fields, by name.
fn variants(schema: &Value) -> Vec<(&str, &Value)> {
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    let named = choices.filter_map(|choice| {
        let (name, _) = choice["properties"].as_object()?.iter().next()?;
        Some((name.as_str(), choice))
    });
    named.collect()
}

#[test]
fn every_kind_of_action_and_every_part_of_one_is_shown() {
    let document = openapi();
    let schemas = &document["components"]["schemas"];
    let mut names = BTreeSet::new();
    parts(schemas, "Action", &mut names);
    parts(schemas, "ReleaseManifest", &mut names);
    assert!(names.len() > 30, "{names:?}");
    let mut cases = Cases::default();
    for name in names {
        let schema = &schemas[name];
        let kinds = variants(schema);
        for (kind, variant) in &kinds {
            // The type of the contract describes its actions.
            if variant["properties"][kind]["$ref"].is_string() && name == "Action" {
                continue;
            }
            assert!(
                variant["examples"][0].is_object(),
                "{name}.{kind} has no example"
            );
        }
        if kinds.is_empty() && schema["properties"].is_object() {
            assert!(schema["examples"][0].is_object(), "{name} has no example");
        }
        let shown = kinds.iter().map(|(_, variant)| *variant).chain([schema]);
        for example in shown.flat_map(|s| s["examples"].as_array().into_iter().flatten()) {
            let at = pointer(&["components", "schemas", name]);
            cases.add(OPENAPI, &at, example, name);
        }
    }
    cases.check();
}

#[test]
fn the_actions_that_are_shown_are_those_that_are_sent() {
    let document = openapi();
    let schemas = &document["components"]["schemas"];
    let sent: Vec<_> = printed()
        .into_iter()
        .map(|step| step["action"].clone())
        .collect();
    let shown = schemas["Action"]["examples"].as_array().unwrap();
    let mut kinds = BTreeSet::new();
    for action in shown {
        assert!(sent.contains(action), "{action} is sent by no test");
        let (contract, inner) = action.as_object().unwrap().iter().next().unwrap();
        let kind = inner.as_object().unwrap().keys().next().unwrap();
        kinds.insert((contract.clone(), kind.clone()));
    }
    for (contract, variant) in variants(&schemas["Action"]) {
        let actions = variant["properties"][contract]["$ref"].as_str().unwrap();
        for (kind, _) in variants(&schemas[actions.strip_prefix(PREFIX).unwrap()]) {
            let known = kinds.remove(&(contract.to_owned(), kind.to_owned()));
            assert!(known, "Action has no example of {contract}.{kind}");
        }
    }
    assert!(kinds.is_empty(), "{kinds:?} are shown and not described");
}
