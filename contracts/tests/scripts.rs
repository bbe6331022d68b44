//! Golden scripts: `scripts/NAME.script` is run (see `script/mod.rs` for the format) and its
//! output compared with `scripts/NAME.golden`. `UPDATE_GOLDEN=1` writes the golden files again.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read files and the environment"
)]

mod script;

use std::fs;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "script"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    scripts
}

/// The first line in which two texts differ.
fn difference(expected: &str, got: &str) -> String {
    let mut pairs = expected.lines().zip(got.lines()).enumerate();
    match pairs.find(|(_, (expected, got))| expected != got) {
        Some((at, (expected, got))) => {
            format!("line {}\nexpected: {expected}\n     got: {got}", at + 1)
        }
        None => "one is the beginning of the other".to_owned(),
    }
}

#[test]
fn every_script_has_the_output_of_its_golden_file() {
    let mut failures = Vec::new();
    for path in scripts() {
        let (output, _) = script::run(&fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("golden");
        if std::env::var("UPDATE_GOLDEN").is_ok() {
            fs::write(&golden, &output).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if expected != output {
            failures.push(format!(
                "{}: {}",
                golden.display(),
                difference(&expected, &output)
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{}\nUPDATE_GOLDEN=1 accepts them",
        failures.join("\n")
    );
}

#[test]
fn a_script_changes_the_same_bytes_each_time() {
    for path in scripts() {
        let text = fs::read_to_string(&path).unwrap();
        let (first, first_changes) = script::run(&text);
        let (second, second_changes) = script::run(&text);
        assert_eq!(first, second, "{}", path.display());
        assert!(first_changes == second_changes, "{}", path.display());
    }
}
