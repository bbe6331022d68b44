//! JSON (RFC 8259) as the ledger accepts it, read by this code alone: whether a transaction, a
//! configuration document or a proof is valid must not depend on the version or the features of a
//! library, because every node has to come to the same answer.
//!
//! A text becomes a [`JsonValue`] first; types are decoded from that value through serde. No name
//! occurs twice in an object, no number has a fraction or an exponent, nothing follows the value,
//! and nesting is bounded. All parts of this program write JSON with serde_json, and every text
//! that they write is accepted here.

mod decode;
mod parse;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::limits::{CONFIG_DEPTH_MAX, JSON_DEPTH_MAX};

pub use decode::{JsonDecodeError, from_value};
pub use parse::{JsonError, JsonProblem, JsonRules, parse};

/// The rules of transactions, proofs and messages: every integer that the types have.
pub const DOCUMENT: JsonRules = JsonRules {
    depth_max: JSON_DEPTH_MAX,
    numbers: i64::MIN as i128..=u64::MAX as i128,
};

/// The rules of configuration documents, which are flatter and kept in canonical form.
pub const CONFIGURATION: JsonRules = JsonRules {
    depth_max: CONFIG_DEPTH_MAX,
    numbers: i64::MIN as i128..=i64::MAX as i128,
};

/// A JSON value without fractions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonValue {
    Null,
    Bool(bool),
    Number(i128),
    Text(String),
    List(Vec<JsonValue>),
    Object(BTreeMap<String, JsonValue>),
}

impl JsonValue {
    /// The canonical text of this value: names in the order of their bytes, no white space, the
    /// shortest escapes.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            JsonValue::Null => text.push_str("null"),
            JsonValue::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            JsonValue::Number(number) => text.push_str(&number.to_string()),
            JsonValue::Text(string) => write_string(text, string),
            JsonValue::List(items) => {
                text.push('[');
                for (at, item) in items.iter().enumerate() {
                    separate(text, at);
                    item.write(text);
                }
                text.push(']');
            }
            JsonValue::Object(members) => {
                text.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    separate(text, at);
                    write_string(text, name);
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
        }
    }
}

/// The name in JSON of an enum's variant without fields, such as `timed_out`.
pub fn variant_name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => unreachable!("called with variants without fields only"),
    }
}

fn separate(text: &mut String, at: usize) {
    if at > 0 {
        text.push(',');
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\0'..='\u{1f}' => {
                write!(text, "\\u{:04x}", u32::from(c)).expect("writing to a string can't fail");
            }
            other => text.push(other),
        }
    }
    text.push('"');
}
