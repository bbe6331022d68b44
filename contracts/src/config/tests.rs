use lamplighter_types::Hash;
use lamplighter_types::json::{self, JsonValue};
use proptest::prelude::*;

use super::effective;
use super::merge::merge;
use crate::tests::city::{id, installed, scope};
use lamplighter_types::{Device, DeviceStatus};

fn parse(text: &str) -> JsonValue {
    json::parse(text, &json::CONFIGURATION).unwrap()
}

/// The examples of RFC 7396, appendix A.
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
        let mut value = parse(target);
        merge(&mut value, parse(patch));
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

proptest! {
    #[test]
    fn merging_twice_changes_nothing_more(mut value in values(), patch in values()) {
        merge(&mut value, patch.clone());
        let once = value.clone();
        merge(&mut value, patch);
        prop_assert_eq!(value, once);
    }
}
