//! The style of CONTRIBUTING.md, as far as it can be counted. Each rule is one test; what it finds
//! is listed with file and line. `samples.rs` shows for each rule that it can fail.

mod docs;
mod layers;
mod rules;
mod samples;
mod scan;
mod tree;

use tree::Tree;

/// Fails with all findings, so that one run shows everything that is to be mended.
fn expect_none(rule: &str, findings: Vec<String>) {
    let list = findings.join("\n  ");
    assert!(
        findings.is_empty(),
        "{rule}: {} found\n  {list}\n",
        findings.len()
    );
}

#[test]
fn files_are_short() {
    let tree = Tree::of_this_repository();
    expect_none(
        "files have at most 500 lines, tests 800",
        rules::long_files(&tree),
    );
}

#[test]
fn functions_are_short() {
    let tree = Tree::of_this_repository();
    expect_none(
        "functions have at most 70 lines",
        rules::long_functions(&tree),
    );
}

#[test]
fn lines_fit_in_100_columns() {
    let tree = Tree::of_this_repository();
    expect_none("lines have at most 100 columns", rules::wide_lines(&tree));
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    let tree = Tree::of_this_repository();
    expect_none(
        "use expect(\"why this cannot fail\") or an error",
        rules::unwraps(&tree),
    );
}

#[test]
fn tests_are_not_below_the_code() {
    let tree = Tree::of_this_repository();
    expect_none(
        "tests belong into a sibling tests.rs",
        rules::inline_tests(&tree),
    );
}

#[test]
fn folders_are_shallow() {
    let tree = Tree::of_this_repository();
    expect_none(
        "at most three folders deep inside a crate",
        rules::deep_files(&tree),
    );
}

#[test]
fn nothing_is_left_to_do() {
    let tree = Tree::of_this_repository();
    expect_none("finish it, or leave it out", rules::left_overs(&tree));
}

#[test]
fn no_path_of_one_machine_is_named() {
    let tree = Tree::of_this_repository();
    expect_none(
        "paths must hold on every machine",
        rules::absolute_paths(&tree),
    );
}

#[test]
fn each_idea_has_one_word() {
    let tree = Tree::of_this_repository();
    expect_none(
        "another word is ours for this, see CONTRIBUTING.md",
        rules::foreign_words(&tree),
    );
}

#[test]
fn links_in_documents_lead_somewhere() {
    let tree = Tree::of_this_repository();
    expect_none("broken links", docs::broken_links(&tree));
}

#[test]
fn crates_depend_upwards_only() {
    let packages = layers::packages_of_this_repository();
    expect_none(
        "a crate uses only crates above it",
        layers::forbidden_edges(&packages),
    );
}
