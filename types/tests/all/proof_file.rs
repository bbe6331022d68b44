//! A valid file has nothing but what is proven: every change of it is refused, or changes the
//! statement.

use std::sync::LazyLock;

use lamplighter_types::proof::*;
use lamplighter_types::*;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{TestChain, device, device_key, event, secret};

/// A file, and what it proves.
struct Sample {
    text: Vec<u8>,
    statement: Statement,
}

struct Samples {
    genesis: Genesis,
    all: Vec<Sample>,
}

impl Samples {
    fn read(&self, text: &[u8]) -> Result<Statement, ProofFileError> {
        let file = ProofFile::from_json(text)?;
        Ok(file.verify(&self.genesis)?.1)
    }
}

/// Every kind of record of the block at height 7: the proof alone, and beside its record under a
/// later head; the block at height 3 changes the validators.
static SAMPLES: LazyLock<Samples> = LazyLock::new(|| {
    let chain = TestChain::new(9, Some(3));
    let mut records = chain.records(7);
    // Keys and records of no contract are proven, and have no statement.
    records.retain(|record| {
        let RecordProof::State { key, .. } = record else {
            return true;
        };
        key.0 == VALIDATOR_SET_KEY
    });
    for name in ["lamp-1", "lamp-2"] {
        records.push(chain.state_record(7, &device_key(name)));
    }
    let mut all = Vec::new();
    for record in records {
        for (head, beside) in [(7, false), (8, true)] {
            let bundle = chain.bundle(record.clone(), 7, head);
            let proven = bundle.verify(&chain.genesis).unwrap();
            let statement = Statement::of(&bundle, &proven, 0).unwrap();
            let text = match beside {
                true => ProofFile::new(bundle, &statement).to_json(),
                false => bundle.to_json(),
            };
            all.push(Sample { text, statement });
        }
    }
    Samples {
        genesis: chain.genesis,
        all,
    }
});

#[test]
fn a_statement_is_the_proven_record_in_plain_json() {
    let mut kinds = Vec::new();
    for Sample { text, statement } in &SAMPLES.all {
        assert_eq!(SAMPLES.read(text).unwrap(), *statement);
        assert_eq!(statement.height, 7);
        let nodes: Vec<_> = statement.signers.iter().map(|s| s.node).collect();
        assert_eq!(nodes, [3, 4, 5, 6, 7], "those in force after the change");
        assert_eq!(statement.signers[0].account.as_str(), "validator-3");
        let statement_json = json!(statement);
        let kind = statement_json["kind"].as_str().unwrap();
        let wanted = match kind {
            "device" => match statement_json["of"]["device"].as_str().unwrap() {
                "lamp-1" => json!(device()),
                name => {
                    assert_eq!(name, "lamp-2");
                    Value::Null
                }
            },
            "event" => {
                assert_eq!(statement_json["of"]["device"], "lamp-1");
                json!(event(statement_json["of"]["index"].as_u64().unwrap()))
            }
            "transaction" => {
                assert_eq!(statement_json["of"]["key"], json!(secret(100).public()));
                assert_eq!(statement_json["record"]["sender"], "alice");
                let action = json!({ "users": { "disable": { "account": "bob" } } });
                assert_eq!(statement_json["record"]["action"], action);
                statement_json["record"].clone()
            }
            _ => statement_json["record"].clone(),
        };
        assert_eq!(statement_json["record"], wanted, "{kind}");
        kinds.push(kind.to_owned());
    }
    kinds.sort();
    kinds.dedup();
    let all = ["device", "event", "receipt", "transaction", "validator_set"];
    assert_eq!(kinds, all);
}

/// Tells whether a changed file is refused, or gives another statement.
fn is_noticed(text: &[u8], statement: &Statement) -> bool {
    SAMPLES.read(text).map_or(true, |read| read != *statement)
}

/// All variants of `value` in which one value, at any depth, is replaced by another.
fn changes(value: &Value) -> Vec<Value> {
    let mut changed = match value {
        Value::Null => vec![json!(0), json!({})],
        Value::Bool(value) => vec![json!(!value)],
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            vec![
                json!(number + 1),
                json!(number ^ 0x80),
                json!(number as f64),
            ]
        }
        Value::String(text) => changed_text(text).into_iter().map(Value::String).collect(),
        Value::Array(items) => changed_list(items),
        Value::Object(members) => changed_members(members),
    };
    changed.push(match value {
        Value::Null => json!(""),
        _ => Value::Null,
    });
    changed
}

fn changed_text(text: &str) -> Vec<String> {
    let mut changed = vec![format!("{text}0"), format!("0{text}"), text.to_uppercase()];
    if let Some(last) = text.char_indices().next_back() {
        changed.push(text[..last.0].to_owned());
        let other = if last.1 == '0' { "1" } else { "0" };
        changed.push(format!("{}{other}", &text[..last.0]));
        changed.push(String::new());
    }
    changed.retain(|other| other != text);
    changed
}

fn changed_list(items: &[Value]) -> Vec<Value> {
    let mut changed = vec![];
    for at in 0..items.len() {
        let with = |item: Option<Value>| {
            let mut other = items.to_vec();
            other.splice(at..at + 1, item);
            Value::Array(other)
        };
        changed.push(with(None));
        changed.extend(changes(&items[at]).into_iter().map(|item| with(Some(item))));
    }
    if let Some(first) = items.first() {
        changed.push([std::slice::from_ref(first), items].concat().into());
    }
    let reversed: Vec<_> = items.iter().rev().cloned().collect();
    if reversed != items {
        changed.push(reversed.into());
    }
    changed
}

fn changed_members(members: &serde_json::Map<String, Value>) -> Vec<Value> {
    let mut changed = vec![];
    for (name, value) in members {
        let mut without = members.clone();
        without.remove(name);
        changed.push(without.clone().into());
        for other in changes(value) {
            let mut with = without.clone();
            with.insert(name.clone(), other);
            changed.push(with.into());
        }
        without.insert(format!("{name}_"), value.clone());
        changed.push(without.into());
    }
    for more in ["height", "record", "note"] {
        if !members.contains_key(more) {
            let mut with = members.clone();
            with.insert(more.to_owned(), json!(7));
            changed.push(with.into());
        }
    }
    changed
}

#[test]
fn a_change_of_any_value_member_or_list_is_noticed() {
    let mut tried = 0;
    for Sample { text, statement } in &SAMPLES.all {
        let tree: Value = serde_json::from_slice(text).unwrap();
        for other in changes(&tree) {
            let other = serde_json::to_vec(&other).unwrap();
            assert!(
                is_noticed(&other, statement),
                "{}\nholds as {statement:#?}",
                String::from_utf8_lossy(&other)
            );
            tried += 1;
        }
    }
    assert!(tried > 5_000, "{tried}");
}

/// Writes JSON in which member number `at` of the whole tree is there twice, with something else
/// before or after it.
fn twice(value: &Value, at: &mut i64, first: bool, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut parts = Vec::new();
            for (name, value) in members {
                let (name, here) = (json!(name), *at == 0);
                *at -= 1;
                let mut member = format!("{name}:");
                twice(value, at, first, &mut member);
                let other = format!("{name}:null");
                match (here, first) {
                    (true, true) => parts.extend([other, member]),
                    (true, false) => parts.extend([member, other]),
                    (false, _) => parts.push(member),
                }
            }
            out.push_str(&format!("{{{}}}", parts.join(",")));
        }
        Value::Array(items) => {
            let mut parts = Vec::new();
            for item in items {
                let mut part = String::new();
                twice(item, at, first, &mut part);
                parts.push(part);
            }
            out.push_str(&format!("[{}]", parts.join(",")));
        }
        other => out.push_str(&other.to_string()),
    }
}

#[test]
fn a_repeated_member_is_refused_at_every_place() {
    for Sample { text, .. } in &SAMPLES.all {
        let tree: Value = serde_json::from_slice(text).unwrap();
        for first in [true, false] {
            for nth in 0.. {
                let (mut at, mut other) = (nth, String::new());
                twice(&tree, &mut at, first, &mut other);
                if at >= 0 {
                    assert!(nth > 20, "{nth} members");
                    assert!(SAMPLES.read(other.as_bytes()).is_ok(), "nothing was twice");
                    break;
                }
                let refused = SAMPLES.read(other.as_bytes());
                assert!(
                    matches!(refused, Err(ProofFileError::Malformed(_))),
                    "{other}: {refused:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// But for blanks between the values, and other ways to write a character.
    #[test]
    fn a_change_of_any_bytes_is_noticed(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let Sample { text, statement } = which.get(&SAMPLES.all);
        let mut other = text.clone();
        for (at, byte) in changes {
            *at.get_mut(&mut other) = byte;
        }
        let tree = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
        prop_assert!(tree(&other) == tree(text) || is_noticed(&other, statement));
    }
}

#[test]
fn a_forged_record_is_named_where_it_differs() {
    let is_device = |s: &&Sample| json!(s.statement)["kind"] == "device";
    let samples: Vec<_> = SAMPLES.all.iter().filter(is_device).collect();
    assert_eq!(samples.len(), 4, "a device and an absent one");
    for sample in samples {
        let mut tree: Value = serde_json::from_slice(&sample.text).unwrap();
        if tree.get("proof").is_none() {
            continue;
        }
        if tree["record"].is_null() {
            tree["record"] = json!(device());
        } else {
            tree["record"]["tags"][0]["value"] = json!("18\u{1b}[2J\u{202e}");
        }
        let refused = SAMPLES.read(tree.to_string().as_bytes()).unwrap_err();
        let ProofFileError::OtherRecord(message) = &refused else {
            panic!("{refused}")
        };
        assert!(message.contains("is proven"), "{message}");
        assert!(
            message
                .chars()
                .all(|c| c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric())
        );
        tree["proof"] = json!({});
        assert!(SAMPLES.read(tree.to_string().as_bytes()).is_err());
    }
}

#[test]
fn a_proof_that_cannot_be_decoded_is_refused() {
    let chain = TestChain::new(3, None);
    let read = |key: &[u8]| {
        let bundle = chain.bundle(chain.state_record(2, key), 2, 2);
        assert!(bundle.verify(&chain.genesis).is_ok());
        let file = ProofFile::from_json(&bundle.to_json()).unwrap();
        file.verify(&chain.genesis).unwrap_err()
    };
    // No contract's key; then a key of the contracts that is cut.
    for key in [b"\xff".as_slice(), &[1, 0], &device_key("lamp-2")[..6]] {
        let refused = read(key);
        let unknown = matches!(
            &refused,
            ProofFileError::Statement(StatementError::UnknownKey(digits))
                if json!(digits) == json!(HexBytes(key.to_vec()))
        );
        assert!(unknown, "{refused:?}");
    }
}

/// A block of one transaction has a tree of one leaf, with an empty path.
#[test]
fn the_only_transaction_of_a_block_is_proven() {
    let chain = TestChain::new(3, None);
    let records = chain.records(1);
    let only = records
        .iter()
        .find(|r| matches!(r, RecordProof::Transaction { .. }))
        .unwrap();
    let RecordProof::Transaction { transaction, place } = only.clone() else {
        unreachable!()
    };
    assert_eq!((place.index, place.path.len()), (0, 0));
    let bundle = chain.bundle(only.clone(), 1, 2);
    assert!(bundle.verify(&chain.genesis).is_ok());
    let mut place = place;
    place.count += 1;
    let bundle = chain.bundle(RecordProof::Transaction { transaction, place }, 1, 2);
    assert!(bundle.verify(&chain.genesis).is_err());
}
