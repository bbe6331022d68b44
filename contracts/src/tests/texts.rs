//! No text that enters the ledger hides from a reader or commands a terminal, and no number is one
//! that a reader of JSON gets wrong.

use lamplighter_types::Action;
use lamplighter_types::codec;
use serde_json::Value;

use crate::execute::check;

/// An action of every kind.
const SAMPLES: &str = include_str!("../../../types/tests/samples/actions.json");
/// A character of each kind that is not seen.
const UNSEEN: [char; 8] = [
    '\0',
    '\u{1b}',
    '\u{9b}',
    '\u{ad}',
    '\u{200b}',
    '\u{202e}',
    '\u{feff}',
    '\u{e0041}',
];
/// Texts that have rules of their own: JSON, where such characters are escapes, and the messages
/// of IOTRegistry, whose names its own tests try.
const SPECIAL_FIELDS: [&str; 3] = ["document", "argument", "function"];

/// Every copy of a value in which one of its texts is longer by one character, with the field.
fn changed(value: &Value, unseen: char) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    match value {
        Value::String(text) => {
            all.push((String::new(), Value::String(format!("{text}{unseen}"))));
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                for (field, item) in changed(item, unseen) {
                    let mut copy = items.clone();
                    copy[at] = item;
                    all.push((field, Value::Array(copy)));
                }
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                for (field, member) in changed(member, unseen) {
                    let mut copy = members.clone();
                    copy.insert(name.clone(), member);
                    let field = if field.is_empty() {
                        name.clone()
                    } else {
                        field
                    };
                    all.push((field, Value::Object(copy)));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    all
}

#[test]
fn no_text_of_an_action_has_characters_that_people_do_not_see() {
    let samples: Vec<Value> = serde_json::from_str(SAMPLES).unwrap();
    let mut tried = std::collections::BTreeSet::new();
    for sample in samples.iter().filter(|sample| sample["type"] == "Action") {
        for unseen in UNSEEN {
            for (field, action) in changed(&sample["value"], unseen) {
                // Ids, keys and names of variants can't be written so.
                let Ok(action) = codec::decode_json::<Action>(action.to_string().as_bytes()) else {
                    continue;
                };
                if SPECIAL_FIELDS.contains(&field.as_str()) {
                    continue;
                }
                assert!(check(&action).is_err(), "{field}: {unseen:?} in {action:?}");
                tried.insert(field);
            }
        }
    }
    for field in [
        "name",
        "label",
        "model",
        "hardware_class",
        "value",
        "reason",
        "comment",
        "data",
    ] {
        assert!(tried.contains(field), "{field} is not in {tried:?}");
    }
    assert!(tried.len() > 12, "{tried:?}");
}

/// Every copy of a value in which one of its numbers is another, with the field.
fn renumbered(value: &Value, number: u64) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    match value {
        Value::Number(_) => all.push((String::new(), Value::from(number))),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                for (field, item) in renumbered(item, number) {
                    let mut copy = items.clone();
                    copy[at] = item;
                    all.push((field, Value::Array(copy)));
                }
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                for (field, member) in renumbered(member, number) {
                    let mut copy = members.clone();
                    copy.insert(name.clone(), member);
                    let field = if field.is_empty() {
                        name.clone()
                    } else {
                        field
                    };
                    all.push((field, Value::Object(copy)));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
    all
}

#[test]
fn no_number_of_an_action_is_above_those_that_every_reader_gets_right() {
    let samples: Vec<Value> = serde_json::from_str(SAMPLES).unwrap();
    let mut tried = 0;
    for sample in samples.iter().filter(|sample| sample["type"] == "Action") {
        for number in [1 << 53, u64::MAX] {
            for (field, action) in renumbered(&sample["value"], number) {
                let Ok(action) = codec::decode_json::<Action>(action.to_string().as_bytes()) else {
                    continue;
                };
                tried += 1;
                assert!(check(&action).is_err(), "{field}: {number} in {action:?}");
            }
        }
    }
    assert!(tried > 30, "{tried}");
}
