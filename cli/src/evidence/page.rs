//! The page for people: one HTML file without anything from elsewhere, made of the data alone, so
//! that the same data makes the same page. The data is in it.
//!
//! All texts of the ledger are escaped: for HTML, and characters that nobody sees as well. The page
//! runs nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use lamplighter_types::proof::{ProvenRecord, Statement};
use lamplighter_types::{printable, printable_json};
use serde_json::Value;

use super::file::{CheckedItem, EvidenceFile};
use crate::output;
use crate::time::utc;

const DATA_BEGIN: &str = "<script type=\"application/json\" id=\"evidence\">";
const DATA_END: &str = "</script>";

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Lamplighter: evidence</title>
<style>
body { font: 15px/1.5 sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3em .6em; border-top: 1px solid #999; }
code, td.value { font-family: monospace; overflow-wrap: anywhere; }
td.time { white-space: nowrap; }
</style>
</head>
<body>
"#;

/// The page of data that holds.
pub fn render(file: &EvidenceFile, checked: &[CheckedItem]) -> String {
    let mut page = HEAD.to_owned();
    put(&mut page, "h1", &format!("Evidence of {}", file.of.words()));
    introduction(&mut page, file);
    records(&mut page, checked);
    changes(&mut page, checked);
    signers(&mut page, checked);
    page.push_str(DATA_BEGIN);
    page.push_str(&data_text(file));
    page.push_str(DATA_END);
    page.push_str("\n</body>\n</html>\n");
    page
}

/// The data in a page; `None` if the text is no page of evidence.
pub fn data(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(HEAD)?;
    let (_, rest) = rest.split_once(DATA_BEGIN)?;
    Some(rest.split_once(DATA_END)?.0)
}

/// The data as JSON that no reader of HTML takes for markup.
fn data_text(file: &EvidenceFile) -> String {
    let json = file.to_json();
    let escaped = printable_json(&json);
    // In JSON these are in texts alone.
    let escaped = escaped.replace('<', "\\u003c").replace('>', "\\u003e");
    escaped.replace('&', "\\u0026")
}

fn introduction(page: &mut String, file: &EvidenceFile) {
    let lines = [
        format!(
            "All of this is proven by the {} proofs in this file, which lead to the signatures of \
             the validators of the ledger with the genesis file of the digest {}.",
            file.items.len(),
            file.chain_id
        ),
        "Check it without a network: lamplighter audit verify THIS-FILE --genesis genesis.json. \
         The genesis file must come from somebody whom you trust. Each proof can also be checked \
         by itself, by other programs, as docs/formats.md of Lamplighter describes."
            .to_owned(),
        "The proofs show that each item is true. That none is left out they do not show: an audit \
         of the ledger (lamplighter audit ledger) does."
            .to_owned(),
    ];
    for line in lines {
        put(page, "p", &line);
    }
    if let Some(next) = &file.next {
        let words = format!("This file was cut: more of it begins after the place {next}.");
        put(page, "p", &words);
    }
}

fn records(page: &mut String, checked: &[CheckedItem]) {
    for item in checked {
        let Statement {
            record,
            height,
            time_ms,
            ..
        } = &item.statement;
        if !matches!(item.proven.record, ProvenRecord::State { .. }) {
            continue;
        }
        put(page, "h2", &item.words());
        let words = format!("As it was after the block {height} of {}.", utc(*time_ms));
        put(page, "p", &words);
        let Value::Object(members) = record else {
            continue;
        };
        page.push_str("<table>\n");
        for (name, value) in members {
            let value = output::text(value);
            row(page, &[("", name), (" class=\"value\"", &value)]);
        }
        page.push_str("</table>\n");
    }
}

fn changes(page: &mut String, checked: &[CheckedItem]) {
    put(page, "h2", "What happened");
    page.push_str("<table>\n<tr><th>time</th><th>block</th><th>what</th><th>name</th></tr>\n");
    for item in checked {
        let name = match &item.proven.record {
            ProvenRecord::State { .. } => continue,
            ProvenRecord::Transaction { transaction, .. } => {
                let key = transaction.envelope().key;
                format!(
                    "transaction {}, signed with the key {key}",
                    transaction.hash()
                )
            }
            ProvenRecord::Receipt { receipt, .. } => {
                format!("receipt of {}", receipt.transaction)
            }
            ProvenRecord::Event { event, .. } => match &event.event.signature {
                Some(_) => format!("signed by the device, brought by {}", event.gateway),
                None => format!("vouched for by {}", event.gateway),
            },
        };
        let time = utc(item.statement.time_ms);
        let height = item.statement.height.to_string();
        row(
            page,
            &[
                (" class=\"time\"", &time),
                ("", &height),
                ("", &item.words()),
                (" class=\"value\"", &name),
            ],
        );
    }
    page.push_str("</table>\n");
}

/// The validators who signed, each once, with the highest block.
fn signers(page: &mut String, checked: &[CheckedItem]) {
    let mut all: BTreeMap<(u64, String), (String, u64)> = BTreeMap::new();
    for item in checked {
        for signer in &item.statement.signers {
            let entry = all
                .entry((signer.node, signer.key.to_string()))
                .or_insert_with(|| (signer.account.to_string(), 0));
            entry.1 = entry.1.max(item.statement.head_height);
        }
    }
    put(page, "h2", "Validators whose signatures prove it");
    page.push_str("<table>\n<tr><th>validator</th><th>key</th><th>newest block</th></tr>\n");
    for ((node, key), (account, height)) in all {
        let name = format!("{account} (node {node})");
        let height = height.to_string();
        row(
            page,
            &[("", &name), (" class=\"value\"", &key), ("", &height)],
        );
    }
    page.push_str("</table>\n");
}

fn put(page: &mut String, element: &str, text: &str) {
    let text = escape(text);
    writeln!(page, "<{element}>{text}</{element}>").expect("a String takes everything");
}

/// A row of cells: attributes and text of each.
fn row(page: &mut String, cells: &[(&str, &str)]) {
    page.push_str("<tr>");
    for (attributes, text) in cells {
        let text = escape(text);
        write!(page, "<td{attributes}>{text}</td>").expect("a String takes everything");
    }
    page.push_str("</tr>\n");
}

/// A text of the ledger in HTML, with characters that nobody sees as `\u{202e}`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
