//! The rules about single files. Each returns its findings as `file:line: what`.

use crate::scan::functions;
use crate::tree::{File, Tree};

const FILE_LINES_MAX: usize = 500;
const TEST_FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
const FOLDERS_MAX: usize = 3;

/// Files whose length is counted.
const COUNTED: [&str; 6] = [".rs", ".ts", ".svelte", ".py", ".sh", ".js"];

/// Files with too many lines.
pub fn long_files(tree: &Tree) -> Vec<String> {
    let counted = |file: &&File| COUNTED.iter().any(|end| file.path.ends_with(end));
    let mut found = Vec::new();
    for file in tree.files.iter().filter(counted) {
        let lines = file.text.lines().count();
        let max = if file.is_test() {
            TEST_FILE_LINES_MAX
        } else {
            FILE_LINES_MAX
        };
        if lines > max {
            found.push(format!("{}: {lines} lines, at most {max}", file.path));
        }
    }
    found
}

/// Functions with too many lines, tests excepted.
pub fn long_functions(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.rust_code() {
        for function in functions(&file.code) {
            if function.lines > FUNCTION_LINES_MAX {
                let at = file.at(function.line);
                found.push(format!(
                    "{at}: {} has {} lines",
                    function.name, function.lines
                ));
            }
        }
    }
    found
}

/// Lines with too many columns. An address, a row of a table in a comment, and a test's data
/// without a space in it cannot be broken.
pub fn wide_lines(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.rust() {
        for (line, text) in file.text.lines().enumerate() {
            let columns = text.chars().count();
            let unbreakable = text.contains("https://")
                || ["//! |", "/// |"]
                    .iter()
                    .any(|row| text.trim_start().starts_with(row))
                || (file.is_test() && text.split(' ').any(|word| word.chars().count() > 64));
            if columns > COLUMNS_MAX && !unbreakable {
                found.push(format!("{}: {columns} columns", file.at(line)));
            }
        }
    }
    found
}

/// `unwrap` in code that is not compiled for tests only.
pub fn unwraps(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.rust_code() {
        for (line, text) in file.code.lines().enumerate() {
            if text.contains(".unwrap()") || text.contains(".unwrap_err()") {
                found.push(format!("{}: {}", file.at(line), text.trim()));
            }
        }
    }
    found
}

/// Test modules with a body in a file of code.
pub fn inline_tests(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.rust_code() {
        let lines: Vec<&str> = file.code.lines().map(str::trim).collect();
        for (line, text) in lines.iter().enumerate() {
            if !text.starts_with("#[cfg(test)]") {
                continue;
            }
            let same = text.trim_start_matches("#[cfg(test)]").trim();
            let item = if same.is_empty() {
                let rest = lines[line + 1..].iter().copied();
                rest.filter(|text| !text.is_empty())
                    .find(|text| !text.starts_with("#["))
            } else {
                Some(same)
            };
            let item = item.unwrap_or_default();
            let item = item
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            if item.starts_with("mod ") && !item.ends_with(';') {
                found.push(format!("{}: a test module below the code", file.at(line)));
            }
        }
    }
    found
}

/// Rust files that lie too deep inside their crate. The crate is the first folder.
pub fn deep_files(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let folders = file.path.split('/').count().saturating_sub(2);
        if folders > FOLDERS_MAX {
            found.push(format!("{}: {folders} folders deep", file.path));
        }
    }
    found
}

/// Texts that contracts make with `Debug`. They would go into receipts and records, and what
/// `Debug` escapes depends on the compiler.
pub fn debug_texts(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let in_contracts = |file: &&File| file.path.starts_with("contracts/src/") && !file.is_test();
    for file in tree.files.iter().filter(in_contracts) {
        for (line, text) in file.text.lines().enumerate() {
            let formats = [":?}", ":#?}", "debug!", "dbg"];
            let comment = text.trim_start().starts_with("//");
            if !comment && formats.iter().any(|format| text.contains(format)) {
                found.push(format!("{}: a text made by Debug", file.at(line)));
            }
        }
    }
    found
}

/// Marks of unfinished work. Put together here, so that this file does not hold them.
pub fn left_overs(tree: &Tree) -> Vec<String> {
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["X", "XX"].concat(),
    ];
    let macros = [
        ["dbg", "!("].concat(),
        ["to", "do!("].concat(),
        ["unimplemented", "!("].concat(),
    ];
    let mut found = Vec::new();
    for file in &tree.files {
        for (line, text) in file.text.lines().enumerate() {
            let mut all = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(word) = all.find(|word| words.iter().any(|mark| mark == word)) {
                found.push(format!("{}: {word}", file.at(line)));
            }
        }
        for (line, text) in file.code.lines().enumerate() {
            if let Some(name) = macros.iter().find(|name| text.contains(name.as_str())) {
                found.push(format!("{}: {name}…)", file.at(line)));
            }
        }
    }
    found
}

/// Paths that hold on the machine of one developer only.
pub fn absolute_paths(tree: &Tree) -> Vec<String> {
    let starts = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/Us", "ers/"].concat(),
    ];
    let mut found = Vec::new();
    for file in &tree.files {
        for (line, text) in file.text.lines().enumerate() {
            if let Some(start) = starts.iter().find(|start| names_path(text, start)) {
                found.push(format!("{}: {start}…", file.at(line)));
            }
        }
    }
    found
}

/// Whether `text` names a path that begins with `start`; in the middle of another path it does not.
fn names_path(text: &str, start: &str) -> bool {
    text.match_indices(start).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-}])$".contains(c))
    })
}
