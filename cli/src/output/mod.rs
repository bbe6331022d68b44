//! Output of the commands: tables for people, or JSON. All output to a terminal goes through this
//! module. The ledger holds texts of people and Things, so control characters are escaped here.

use std::fmt::Display;
use std::io::Write;

use lamplighter_client::Submitted;
use lamplighter_types::{printable, printable_json};
use serde::Serialize;
use serde_json::{Value, json};

use crate::describe;
use crate::failure::Failure;

mod progress;
#[cfg(test)]
mod tests;

pub use progress::Progress;

/// The form of the output.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// A list of `what`: each item on a line of a table, or all of them as JSON.
    pub fn list<T: Serialize>(
        self,
        what: &str,
        items: &[T],
        heads: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) {
        if self.json {
            print(&json!(items))
        } else {
            emit_list(what, heads, items.iter().map(row).collect());
        }
    }

    /// One record: a line for each member, or JSON.
    pub fn record(self, record: &impl Serialize) {
        let value = json!(record);
        if self.json || !value.is_object() {
            return print(&value);
        }
        let members = members("", &value);
        let members = members.iter().map(|(name, text)| (&**name, text.clone()));
        emit_members(&members.collect::<Vec<_>>());
    }

    /// An answer: words for people, or JSON.
    pub fn answer(self, value: &Value, words: &str) {
        if self.json {
            print(value);
        } else {
            emit(words);
        }
    }

    /// Words for people; nothing as JSON.
    pub fn print_text(self, words: &str) {
        if !self.json {
            emit(words);
        }
    }

    /// The outcome of a transaction.
    pub fn submitted(self, submitted: &Submitted) {
        let Submitted {
            transaction,
            height,
            index,
            certified,
            receipt,
            // The words for people are this program's own.
            message: _,
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
            emit(&format!("  {}", describe::notification(notification)));
        }
    }
}

/// A table of `what`; when it is empty, standard error says so. Nodes leave out what the account
/// may not read.
pub fn emit_list(what: &str, heads: &[&str], rows: Vec<Vec<String>>) {
    let is_empty = rows.is_empty();
    emit_table(heads, rows);
    if is_empty {
        remark_none(&format!("{what} that this account may read"));
    }
}

/// Says on standard error that a list of `what` is empty.
pub fn remark_none(what: &str) {
    // Without a reader the remark is lost.
    let _unread = writeln!(std::io::stderr(), "lamplighter: no {what}");
}

/// A table with its heads.
pub fn emit_table(heads: &[&str], rows: Vec<Vec<String>>) {
    for line in table(heads, rows) {
        emit(&line);
    }
}

/// A table as CSV (RFC 4180): a line of heads, then the rows. A cell that a spreadsheet would take
/// for a formula gets an apostrophe before it.
pub fn print_csv(heads: &[&str], rows: Vec<Vec<String>>) {
    for line in csv_lines(heads, rows) {
        if !write_line(&line) {
            return;
        }
    }
}

/// The lines of a table as CSV. A control character is escaped, so that a record is one line.
pub fn csv_lines(heads: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut lines = Vec::with_capacity(rows.len() + 1);
    for row in [vec![heads], rows].concat() {
        let cells: Vec<_> = row.iter().map(|cell| csv_cell(cell)).collect();
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        writer
            .write_record(&cells)
            .expect("a row without a rule for its length is written to memory");
        let line = writer.into_inner().expect("memory takes what is flushed");
        let line = String::from_utf8_lossy(&line);
        lines.push(line.trim_end_matches('\n').to_owned());
    }
    lines
}

fn csv_cell(cell: &str) -> String {
    let text = printable(cell);
    match text.starts_with(['=', '+', '-', '@']) {
        true => format!("'{text}"),
        false => text.into_owned(),
    }
}

/// The members of a value, and those of the objects in it, as `approvals.releases.expires_ms`.
fn members(name: &str, value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Object(inner) if !inner.is_empty() => {
            let place = |member: &str| match name {
                "" => member.to_owned(),
                name => format!("{name}.{member}"),
            };
            let inner = inner.iter();
            inner
                .flat_map(|(member, value)| members(&place(member), value))
                .collect()
        }
        other => vec![(name.to_owned(), text(other))],
    }
}

/// Names with their values, a line each.
pub fn emit_members(members: &[(&str, String)]) {
    let width = members.iter().map(|(name, _)| columns(name)).max();
    let width = width.unwrap_or(0);
    for (name, value) in members {
        emit(&format!("{name:width$}  {value}"));
    }
}

/// The lines of a table. Cells are escaped before their width is looked at.
fn table(heads: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = [vec![heads], rows]
        .concat()
        .into_iter()
        .map(|row| {
            row.iter()
                .map(|cell| printable(cell).into_owned())
                .collect()
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| columns(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn columns(text: &str) -> usize {
    text.chars().count()
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

/// Several words, or a dash for none.
pub fn joined<T: Display>(all: &[T]) -> String {
    match all {
        [] => "-".to_owned(),
        all => all.iter().map(T::to_string).collect::<Vec<_>>().join(" "),
    }
}

/// Something, or a dash for nothing.
pub fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// Yes or no.
pub fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

/// JSON on standard output.
pub fn print(value: &Value) {
    write_line(&printable_json(&format!("{value:#}")));
}

/// JSON on one line of standard output; false when the reader is gone.
pub fn print_line(value: &Value) -> bool {
    write_line(&printable_json(&value.to_string()))
}

/// A line on standard output; dropped when the reader is gone, as behind `head`.
pub fn emit(line: &str) {
    emit_while_read(line);
}

/// Prints a line like [`emit`]; false when the reader is gone, which ends commands that run for
/// ever.
pub fn emit_while_read(line: &str) -> bool {
    write_line(&printable(line))
}

fn write_line(escaped: &str) -> bool {
    writeln!(std::io::stdout(), "{escaped}").is_ok()
}

/// A warning on standard error, although the command was carried out.
pub fn warn(words: &str) {
    // Without a reader the warning is lost.
    let _unread = writeln!(
        std::io::stderr(),
        "lamplighter: warning: {}",
        printable(words)
    );
}

/// The failure of the command, on standard error. Its text comes in part from nodes and from the
/// ledger.
pub fn complain(failure: &Failure) {
    let lines = failure.lines();
    let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
    // Without a reader the exit code still reports the failure.
    let _unread = writeln!(std::io::stderr(), "lamplighter: {}", lines.join("\n"));
}
