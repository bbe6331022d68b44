//! Links of the Markdown documents, and the tests that they name.

use std::collections::BTreeSet;

use crate::tree::{File, Tree};

/// The pages whose words in code font with so many `_` or more are names of tests. Names of
/// settings have fewer.
const NAMES_TESTS: [(&str, usize); 3] = [
    ("docs/security.md", 2),
    ("docs/lwm2m.md", 4),
    ("docs/gateway.md", 4),
];

/// The codes of problems, and the page whose tables say what a program does about each.
const CODES: &str = "types/src/wire/problem.rs";
const CODES_PAGE: &str = "docs/api.md";

/// Relative links and images whose file is not there.
pub fn broken_links(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, target) in links(&file.text) {
            if is_broken(tree, file, target) {
                found.push(format!("{}: {target}", file.at(line)));
            }
        }
    }
    found
}

fn is_broken(tree: &Tree, file: &File, target: &str) -> bool {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return false;
    }
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let base = if path.starts_with('/') {
        tree.root.clone()
    } else {
        tree.root.join(folder)
    };
    !base.join(path.trim_start_matches('/')).exists()
}

/// The targets of `[text](target)` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (line, text) in text.lines().enumerate() {
        if text.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second part between backquotes is code.
        for part in text.split('`').step_by(2) {
            for (at, _) in part.match_indices("](") {
                let rest = &part[at + 2..];
                let target = rest.split([')', ' ']).next().unwrap_or_default();
                found.push((line, target));
            }
        }
    }
    found
}

/// Tests that a document names and that no Rust file declares.
pub fn missing_tests(tree: &Tree) -> Vec<String> {
    let declared: BTreeSet<&str> = tree.rust().flat_map(|file| declared(&file.text)).collect();
    let mut found = Vec::new();
    let pages = tree.files.iter().filter_map(|file| {
        let page = NAMES_TESTS.iter().find(|(path, _)| file.path == *path);
        page.map(|(_, marks_min)| (file, *marks_min))
    });
    for (file, marks_min) in pages {
        for (line, text) in file.text.lines().enumerate() {
            for name in text.split('`').skip(1).step_by(2) {
                if is_test_name(name, marks_min) && !declared.contains(name) {
                    found.push(format!("{}: no test {name}", file.at(line)));
                }
            }
        }
    }
    found
}

/// Codes of problems that the page of the HTTP interface does not explain.
pub fn unexplained_codes(tree: &Tree) -> Vec<String> {
    let text = |path: &str| {
        let file = tree.files.iter().find(|file| file.path == path);
        file.map_or("", |file| &file.text)
    };
    let explained: BTreeSet<&str> = text(CODES_PAGE).split('`').skip(1).step_by(2).collect();
    let (_, codes) = text(CODES).split_once("pub mod code {").unwrap_or_default();
    let codes = codes.split("\n}").next().unwrap_or_default();
    let codes = codes.split('"').skip(1).step_by(2);
    let missing = codes.filter(|code| !explained.contains(code));
    missing
        .map(|code| format!("{CODES_PAGE} has no `{code}`"))
        .collect()
}

/// Whether a word in code font can be the name of a test: small words with so many marks between.
fn is_test_name(word: &str, marks_min: usize) -> bool {
    let in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.chars().all(in_name) && word.matches('_').count() >= marks_min
}

/// The names after `fn`, also in macros.
fn declared(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).map(|rest| {
        let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c: char| !in_name(c)).unwrap_or(rest.len());
        &rest[..end]
    })
}
