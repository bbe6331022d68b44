//! The printed form of an approved record, field by field.

use serde::Serialize;
use serde_json::{Value, json};

use crate::output::{Output, text};
use crate::time;

#[cfg(test)]
mod tests;

/// Prints every field of a signed record on a line; nothing with `--json`.
pub fn print_fields(output: Output, record: &impl Serialize) {
    let mut fields = Vec::new();
    flatten(String::new(), &json!(record), &mut fields);
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    output.print_text("approved:");
    for (name, value) in fields {
        output.print_text(&format!("  {name:width$}  {value}"));
    }
}

/// A member with its name in words. Milliseconds are a time or a duration, which is read in words
/// too.
fn in_words(member: &str, value: &Value) -> (String, Value) {
    let words: Vec<_> = member.split('_').collect();
    match value.as_u64().filter(|_| words.contains(&"ms")) {
        Some(ms) => {
            let formatted = match member {
                "expires_ms" => time::local(ms),
                _ => time::duration(ms),
            };
            let words: Vec<_> = words.into_iter().filter(|word| *word != "ms").collect();
            (words.join(" "), json!(formatted))
        }
        None => (words.join(" "), value.clone()),
    }
}

/// Members of members get names of both.
fn flatten(name: String, value: &Value, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let (member, value) = in_words(member, value);
                let name = [name.as_str(), member.as_str()].join(" ");
                flatten(name.trim().to_owned(), &value, fields);
            }
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(text).collect();
            fields.push((name, items.join(", ")));
        }
        value => fields.push((name, text(value))),
    }
}
