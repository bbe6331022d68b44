use std::collections::BTreeMap;

use lamplighter_types::Hash;
use lamplighter_types::limits::CONFIG_DEPTH_MAX;
use proptest::prelude::*;

use super::effective;
use super::json::{Problem, Value, parse};
use crate::tests::city::{id, installed, scope};
use lamplighter_types::{Device, DeviceStatus};

fn problem(text: &str) -> Problem {
    parse(text).unwrap_err().problem
}

#[test]
fn what_is_read_is_written_in_one_way() {
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
fn what_is_no_plain_json_is_refused() {
    assert_eq!(problem(""), Problem::Value);
    assert_eq!(problem("nul"), Problem::Value);
    assert_eq!(problem("{\"a\":1,}"), Problem::Expected(b'"'));
    assert_eq!(problem("{\"a\" 1}"), Problem::Expected(b':'));
    assert_eq!(problem("[1 2]"), Problem::Expected(b']'));
    assert_eq!(problem("[1]x"), Problem::Trailing);
    assert_eq!(problem("{\"a\":1,\"\\u0061\":2}"), Problem::Repeated);
    for number in ["01", "-0", "-", "1.0", "1e1", "1E1", "-a"] {
        assert_eq!(problem(number), Problem::NotWhole, "{number}");
    }
    assert_eq!(problem("9223372036854775808"), Problem::TooLarge);
    assert_eq!(parse("-9223372036854775808"), Ok(Value::Number(i64::MIN)));
    assert_eq!(problem("\"a"), Problem::Unclosed);
    assert_eq!(problem("\"a\nb\""), Problem::ControlCharacter);
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
            Problem::Escape,
            "{escape}"
        );
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(CONFIG_DEPTH_MAX)).is_ok());
    assert_eq!(problem(&nested(CONFIG_DEPTH_MAX + 1)), Problem::TooDeep);
    assert_eq!(problem(&"[".repeat(100_000)), Problem::TooDeep);
}

/// RFC 7396, appendix A.
#[test]
fn merging_follows_the_examples_of_the_standard() {
    let examples = [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":{"b":"d","c":null}}"#,
            r#"{"a":{"b":"d"}}"#,
        ),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, r#"null"#, r#"null"#),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
        (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        (
            r#"{}"#,
            r#"{"a":{"bb":{"ccc":null}}}"#,
            r#"{"a":{"bb":{}}}"#,
        ),
    ];
    for (target, patch, result) in examples {
        let mut value = parse(target).unwrap();
        value.merge(parse(patch).unwrap());
        assert_eq!(value.canonical(), result, "{target} with {patch}");
    }
}

#[test]
fn a_device_without_documents_gets_an_empty_object() {
    let device = Device {
        device: id("lamp-1"),
        owner: id("city"),
        offered_to: None,
        model: "lamp".to_owned(),
        hardware_class: "lamp-v2".to_owned(),
        district: scope("north"),
        gateway: None,
        key: None,
        tags: Vec::new(),
        status: DeviceStatus::Active,
        registered_height: 1,
    };
    let (document, digest) = effective(&installed(), &device).unwrap();
    assert_eq!((document.as_str(), digest), ("{}", Hash::of(b"{}")));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Number),
        ".*".prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(".{0,3}", inner, 0..4).prop_map(Value::Object),
        ]
    })
}

/// What the other reader of JSON in this program makes of a text.
fn by_library(value: serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => Value::Number(number.as_i64()?),
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => {
            Value::List(items.into_iter().map(by_library).collect::<Option<_>>()?)
        }
        serde_json::Value::Object(members) => {
            let members = members.into_iter().map(|(k, v)| Some((k, by_library(v)?)));
            Value::Object(members.collect::<Option<BTreeMap<_, _>>>()?)
        }
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
    fn whatever_is_accepted_is_json_to_others_too(
        text in r#"[\[\]{}",:0-9a-c\\untrelsf .-]{0,24}"#
    ) {
        if let Ok(value) = parse(&text) {
            let read = serde_json::from_str(&text).ok().and_then(by_library);
            prop_assert_eq!(read, Some(value));
        }
    }

    #[test]
    fn merging_twice_changes_nothing_more(mut value in values(), patch in values()) {
        value.merge(patch.clone());
        let once = value.clone();
        value.merge(patch);
        prop_assert_eq!(value, once);
    }
}
