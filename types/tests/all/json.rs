//! JSON texts: one field too many, a field twice, or a field missing is refused everywhere; our
//! reader accepts every text that serde_json writes, and of transactions exactly those that
//! serde_json accepts.

use std::collections::BTreeMap;

use lamplighter_types::codec::{self, decode_json, encode};
use lamplighter_types::json::{
    self, JsonError, JsonProblem, JsonValue, from_value, parse as parse_by,
};
use lamplighter_types::limits::{CONFIG_DEPTH_MAX, JSON_DEPTH_MAX};
use lamplighter_types::{Action, Genesis, SignedTransaction, Transaction};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::samples::{self, FILES, Visit};

/// The change made to one object of a text.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Nothing,
    AddField,
    RepeatField,
}

/// Writes `value` with a change in object number `target`; counts `target` down.
fn write(value: &Value, change: Change, target: &mut usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            let here = *target == 0;
            *target = target.wrapping_sub(1);
            let mut fields = Vec::new();
            for (name, value) in map {
                let mut field = format!("{}:", Value::from(name.as_str()));
                write(value, change, target, &mut field);
                fields.push(field);
            }
            match change {
                Change::AddField if here => fields.push("\"surplus\":0".to_owned()),
                Change::RepeatField if here => fields.push(fields[0].clone()),
                _ => {}
            }
            *out += &format!("{{{}}}", fields.join(","));
        }
        Value::Array(values) => {
            let mut parts = Vec::new();
            for value in values {
                let mut part = String::new();
                write(value, change, target, &mut part);
                parts.push(part);
            }
            *out += &format!("[{}]", parts.join(","));
        }
        other => *out += &other.to_string(),
    }
}

fn objects(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(objects).sum::<usize>(),
        Value::Array(values) => values.iter().map(objects).sum(),
        _ => 0,
    }
}

struct Strict;

impl Visit for Strict {
    fn visit<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        kind: &str,
        value: &T,
        json: &str,
    ) {
        let tree: Value = serde_json::from_str(json).unwrap();
        assert_eq!(
            serde_json::to_value(value).unwrap(),
            tree,
            "{kind}: another JSON form"
        );
        let text = serde_json::to_vec(value).unwrap();
        let again: T = decode_json(&text).unwrap();
        assert_eq!(encode(&again), encode(value), "{kind}");
        for object in 0..objects(&tree) {
            for change in [Change::Nothing, Change::AddField, Change::RepeatField] {
                let (mut target, mut text) = (object, String::new());
                write(&tree, change, &mut target, &mut text);
                let accepted = decode_json::<T>(text.as_bytes()).is_ok();
                assert_eq!(accepted, change == Change::Nothing, "{kind}: {text}");
            }
        }
        assert!(
            decode_json::<T>(&[&text[..], b" 0"].concat()).is_err(),
            "{kind}"
        );
        let spaced = [b" ", &text[..], b"\n"].concat();
        assert!(decode_json::<T>(&spaced).is_ok(), "{kind}");
    }
}

#[test]
fn surplus_and_repeated_fields_are_refused_at_every_depth() {
    for file in FILES {
        samples::each(file, &mut Strict);
    }
}

fn parse(text: &str) -> Result<JsonValue, JsonError> {
    parse_by(text, &json::CONFIGURATION)
}

fn problem(text: &str) -> JsonProblem {
    parse(text).unwrap_err().problem
}

#[test]
fn a_value_has_one_canonical_text() {
    let text = r#" { "b" : [ 1 , -20, true, null ] , "a" : "\u00e9\/\ud83d\ude00\u0007\"" } "#;
    let value = parse(text).unwrap();
    let canonical = value.canonical();
    assert_eq!(
        canonical,
        "{\"a\":\"é/😀\\u0007\\\"\",\"b\":[1,-20,true,null]}"
    );
    assert_eq!(parse(&canonical).unwrap(), value);
}

#[test]
fn anything_but_plain_json_is_refused() {
    assert_eq!(problem(""), JsonProblem::NoValue);
    assert_eq!(problem("nul"), JsonProblem::NoValue);
    assert_eq!(problem("{\"a\":1,}"), JsonProblem::Expected(b'"'));
    assert_eq!(problem("{\"a\" 1}"), JsonProblem::Expected(b':'));
    assert_eq!(problem("[1 2]"), JsonProblem::Expected(b']'));
    assert_eq!(problem("[1]x"), JsonProblem::Trailing);
    assert_eq!(problem("{\"a\":1,\"\\u0061\":2}"), JsonProblem::Repeated);
    for number in ["01", "-0", "-", "1.0", "1e1", "1E1", "-a"] {
        assert_eq!(problem(number), JsonProblem::NotWhole, "{number}");
    }
    assert_eq!(problem("9223372036854775808"), JsonProblem::TooLarge);
    assert_eq!(
        parse("-9223372036854775808"),
        Ok(JsonValue::Number(i64::MIN.into()))
    );
    assert_eq!(problem("\"a"), JsonProblem::Unclosed);
    assert_eq!(problem("\"a\nb\""), JsonProblem::ControlCharacter);
    let escapes = [
        "\\x",
        "\\u12",
        "\\u12g4",
        "\\ud800",
        "\\udc00",
        "\\ud800\\n",
        "\\ud800\\u0041",
    ];
    for escape in escapes {
        assert_eq!(
            problem(&format!("\"{escape}\"")),
            JsonProblem::Escape,
            "{escape}"
        );
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(CONFIG_DEPTH_MAX)).is_ok());
    assert_eq!(
        problem(&nested(CONFIG_DEPTH_MAX + 1)),
        JsonProblem::TooDeep {
            max: CONFIG_DEPTH_MAX
        }
    );
    assert_eq!(
        problem(&"[".repeat(100_000)),
        JsonProblem::TooDeep {
            max: CONFIG_DEPTH_MAX
        }
    );
}

fn values() -> impl Strategy<Value = JsonValue> {
    let leaf = prop_oneof![
        Just(JsonValue::Null),
        any::<bool>().prop_map(JsonValue::Bool),
        any::<i64>().prop_map(|n| JsonValue::Number(n.into())),
        ".*".prop_map(JsonValue::Text),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(JsonValue::List),
            prop::collection::btree_map(".{0,3}", inner, 0..4).prop_map(JsonValue::Object),
        ]
    })
}

/// The same value as serde_json has it; `None` if it has a fraction or a large number.
fn by_library(value: serde_json::Value) -> Option<JsonValue> {
    Some(match value {
        serde_json::Value::Null => JsonValue::Null,
        serde_json::Value::Bool(value) => JsonValue::Bool(value),
        serde_json::Value::Number(number) => JsonValue::Number(number.as_i64()?.into()),
        serde_json::Value::String(text) => JsonValue::Text(text),
        serde_json::Value::Array(items) => {
            JsonValue::List(items.into_iter().map(by_library).collect::<Option<_>>()?)
        }
        serde_json::Value::Object(members) => {
            let members = members.into_iter().map(|(k, v)| Some((k, by_library(v)?)));
            JsonValue::Object(members.collect::<Option<BTreeMap<_, _>>>()?)
        }
    })
}

/// The text as serde_json reads it, and as we do, is the same value or none.
fn agree<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &[u8]) {
    let by_library = serde_json::from_slice::<T>(text).ok();
    let shown = String::from_utf8_lossy(text);
    assert_eq!(decode_json::<T>(text).ok(), by_library, "{shown}");
}

/// Texts that the two readers could take for different things: a JSON text, the part of it that is
/// replaced, and what takes its place.
fn edited() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<String> = samples::of("actions")
        .into_iter()
        .map(|sample| sample.json)
        .collect();
    let pieces = [
        "",
        " ",
        "\t",
        "\u{b}",
        "\u{feff}",
        "0",
        "-0",
        "00",
        "1.0",
        "1e0",
        "-1",
        "null",
        "true",
        "{}",
        "[]",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\\",
        "\\u0061",
        "\\ud800",
        "\"a\":1,",
        "\u{1}",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    let edit = (any::<prop::sample::Index>(), 0..4_usize, piece);
    let line = prop::sample::select(lines);
    (line, prop::collection::vec(edit, 0..3)).prop_map(|(line, edits)| {
        let mut text = format!(r#"{{"sender":"ada","sequence":7,"expires_ms":9,"action":{line}}}"#)
            .into_bytes();
        for (at, cut, piece) in edits {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.bytes());
        }
        text
    })
}

proptest! {
    #[test]
    fn every_value_survives_its_canonical_text(value in values()) {
        prop_assert_eq!(parse(&value.canonical()), Ok(value));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn accepted_texts_are_json_to_serde_json_too(
        text in r#"[\[\]{}",:0-9a-c\\untrelsf .-]{0,24}"#
    ) {
        if let Ok(value) = parse(&text) {
            let read = serde_json::from_str(&text).ok().and_then(by_library);
            prop_assert_eq!(read, Some(value));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn transactions_are_those_of_serde_json(text in edited()) {
        agree::<Transaction>(&text);
    }
}

/// A transaction of ada with the text of an action.
fn with_action(action: &str) -> String {
    format!(r#"{{"sender":"ada","sequence":1,"expires_ms":0,"action":{action}}}"#)
}

/// Every form of a value that serde_json accepts: fields as a list, a variant without content as an
/// object with `null`, white space, escapes, a repeated variant.
#[test]
fn unusual_forms_are_those_of_serde_json() {
    let disable = r#"{"users":{"disable":{"account":"olga"}}}"#;
    let twice = r#"{"users":{"disable":{"account":"a"}},"users":{"disable":{"account":"a"}}}"#;
    let target = |target: &str| {
        let rest = r#""document":"{}","replaces_version":0"#;
        format!(r#"{{"config":{{"set_desired":{{"target":{target},{rest}}}}}}}"#)
    };
    for text in [
        r#"["ada",7,9,{"users":{"disable":["olga"]}}]"#.to_owned(),
        r#"["ada",7,9,{"users":{"disable":["olga"]}},1]"#.to_owned(),
        with_action(disable).replace("ada", r"\u0061da"),
        with_action(disable).replace(":1", ":18446744073709551615"),
        with_action(disable).replace(":1", ":\t1\n"),
        with_action(r#"{"users":{"disable":null}}"#),
        with_action(r#"{"users":"disable"}"#),
        with_action(&target(r#""fleet""#)),
        with_action(&target(r#"{"fleet":null}"#)),
        with_action(&target(r#"{"fleet":[]}"#)),
        with_action(twice),
    ] {
        agree::<Transaction>(text.as_bytes());
    }
    agree::<Transaction>(b"\xff");
    agree::<Genesis>(b"{}");
    agree::<SignedTransaction>(b"null");
    agree::<Action>(b"\"users\"");
}

#[test]
fn documents_nest_as_deep_as_serde_json_allows_and_no_deeper() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1] {
        let accepted = parse_by(&nested(depth), &json::DOCUMENT).is_ok();
        assert_eq!(accepted, depth == JSON_DEPTH_MAX);
        let by_library = serde_json::from_str::<Value>(&nested(depth)).is_ok();
        assert_eq!(accepted, by_library, "{depth}");
    }
    let endless = "[".repeat(1_000_000);
    assert!(parse_by(&endless, &json::DOCUMENT).is_err());
}

#[test]
fn an_error_names_the_place_in_the_document() {
    let tags = r#"[{"name":"a","value":"b"},{"name":"c","value":7}]"#;
    let tag = format!(r#"{{"devices":{{"tag":{{"device":"lamp-1","tags":{tags}}}}}}}"#);
    let text = with_action(&tag);
    let codec::CodecError::Json { wanted: _, source } =
        decode_json::<Transaction>(text.as_bytes()).unwrap_err()
    else {
        panic!("another error");
    };
    let place = "action.devices.tag.tags[1].value: ";
    let reason = "invalid type: integer `7`, expected a string";
    assert_eq!(source.to_string(), format!("{place}{reason}"));
    assert_eq!(source.message(), reason);
    let null = from_value::<u64>(JsonValue::Null).unwrap_err();
    assert_eq!(null.to_string(), "invalid type: null, expected u64");
}
