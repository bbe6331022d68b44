//! What commands print: tables for people, or JSON.

use std::io::Write;

use lamplighter_client::Submitted;
use serde::Serialize;
use serde_json::{Value, json};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// A list: each item on a line of a table, or all of them as JSON.
    pub fn list<T: Serialize>(self, items: &[T], heads: &[&str], row: impl Fn(&T) -> Vec<String>) {
        if self.json {
            return print(&json!(items));
        }
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        line(&widths, heads.iter().map(|head| (*head).to_owned()));
        for row in rows {
            line(&widths, row.into_iter());
        }
    }

    /// One record: a line for each member, or JSON.
    pub fn record(self, record: &impl Serialize) {
        let value = json!(record);
        match value.as_object() {
            Some(members) if !self.json => {
                let width = members.keys().map(String::len).max().unwrap_or(0);
                for (name, value) in members {
                    emit(&format!("{name:width$}  {}", text(value)));
                }
            }
            _ => print(&value),
        }
    }

    /// Words for people; nothing as JSON.
    pub fn say(self, words: &str) {
        if !self.json {
            emit(words);
        }
    }

    /// What became of a transaction.
    pub fn submitted(self, submitted: &Submitted) {
        let Submitted {
            transaction,
            height,
            index,
            certified,
            receipt,
        } = submitted;
        if self.json {
            return print(
                &json!({ "transaction": transaction, "height": height, "index": index,
                "certified": certified, "receipt": receipt }),
            );
        }
        match (height, index) {
            (Some(height), Some(index)) => {
                emit(&format!(
                    "done in block {height} (transaction {index}): {transaction}"
                ));
            }
            _ => emit(&format!("taken: {transaction}")),
        }
        for notification in receipt.iter().flat_map(|receipt| &receipt.notifications) {
            emit(&format!("  {}", text(&json!(notification.fact))));
        }
    }
}

fn line(widths: &[usize], cells: impl Iterator<Item = String>) {
    let cells: Vec<_> = cells
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"))
        .collect();
    emit(cells.join("  ").trim_end());
}

/// A value in a line: texts without quotation marks.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// The JSON name of an enum's value.
pub fn name(value: &impl Serialize) -> String {
    text(&json!(value))
}

/// JSON on standard output.
pub fn print(value: &Value) {
    emit(&format!("{value:#}"));
}

/// A line on standard output. What nobody reads any more, as behind `head`, is dropped.
pub fn emit(line: &str) {
    emit_while_read(line);
}

/// As [`emit`]; false when nobody reads any more: then commands that go on for ever end.
pub fn emit_while_read(line: &str) -> bool {
    writeln!(std::io::stdout(), "{line}").is_ok()
}
