//! JSON texts: one field too many, a field twice, or a field missing is refused everywhere.

use lamplighter_types::codec::{decode_json, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::samples::{self, FILES, Visit};

/// What is done to one object of a text.
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
