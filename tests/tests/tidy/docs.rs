//! Links of the Markdown documents.

use crate::tree::{File, Tree};

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
