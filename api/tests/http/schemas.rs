//! Checks of a node's messages against the documents, with an independent validator.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
pub const OPENAPI: &str = "api/openapi.json";
pub const ASYNCAPI: &str = "docs/asyncapi.yaml";

/// Values and the schemas that they must have; equal values are kept once.
#[derive(Default)]
pub struct Cases(BTreeSet<String>);

impl Cases {
    /// `at` is the JSON pointer of the schema in `document`, `what` is for the report.
    pub fn add(&mut self, document: &str, at: &str, value: &Value, what: &str) {
        let case = json!({ "document": document, "at": at, "value": value, "what": what });
        self.0.insert(case.to_string());
    }

    /// Asserts that every value agrees with its schema.
    #[track_caller]
    pub fn check(&self) {
        let mut program = Command::new(format!("{ROOT}/.venv/bin/python"))
            .arg(format!("{ROOT}/tests/validate.py"))
            .current_dir(ROOT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("scripts/setup --test makes .venv");
        let mut input = program.stdin.take().unwrap();
        let text: String = self.0.iter().map(|case| format!("{case}\n")).collect();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = program.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let answer = String::from_utf8_lossy(&output.stderr);
        let faults = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{faults}{answer}");
        assert!(
            answer.contains(&format!("{} checked", self.0.len())),
            "{answer}"
        );
    }
}

/// A JSON pointer to a member of several names.
pub fn pointer(names: &[&str]) -> String {
    let escaped = names
        .iter()
        .map(|name| name.replace('~', "~0").replace('/', "~1"));
    escaped.map(|name| format!("/{name}")).collect()
}

/// The HTTP document as it is published.
pub fn openapi() -> Value {
    let text = std::fs::read_to_string(format!("{ROOT}/{OPENAPI}")).unwrap();
    serde_json::from_str(&text).unwrap()
}
