//! The style of CONTRIBUTING.md, as far as it can be counted. Each rule is one test; what it finds
//! is listed with file and line. `samples.rs` shows for each rule that it can fail.

mod docs;
mod glossary;
mod layers;
mod names;
mod rules;
mod samples;
mod scan;
mod tree;

use std::collections::BTreeMap;

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

fn print_per_crate(findings: &[String]) {
    let mut counts = BTreeMap::new();
    for finding in findings {
        let path = finding.split([':', ' ']).next().unwrap_or_default();
        let folder = path.rsplit_once("/src").map_or(path, |(folder, _)| folder);
        let folder = folder
            .rsplit_once("/tests/")
            .map_or(folder, |(folder, _)| folder);
        *counts.entry(folder.to_owned()).or_insert(0) += 1;
    }
    for (folder, count) in counts {
        println!("{folder}: {count}");
    }
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
fn contracts_make_no_text_with_debug() {
    let tree = Tree::of_this_repository();
    expect_none("codes and fields, no text", rules::debug_texts(&tree));
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
fn names_use_the_words_of_the_glossary() {
    let tree = Tree::of_this_repository();
    let findings = names::refused_names(&tree);
    print_per_crate(&findings);
    expect_none(
        "another word is ours for this, see CONTRIBUTING.md",
        findings,
    );
}

#[test]
fn general_type_names_have_one_meaning() {
    let tree = Tree::of_this_repository();
    expect_none(
        "name what distinguishes each of these types",
        names::repeated_types(&tree),
    );
}

#[test]
fn doc_comments_begin_with_what_it_is() {
    let tree = Tree::of_this_repository();
    let findings = names::inverted_openings(&tree);
    print_per_crate(&findings);
    expect_none("rewrite the first sentence", findings);
}

#[test]
fn links_in_documents_lead_somewhere() {
    let tree = Tree::of_this_repository();
    expect_none("broken links", docs::broken_links(&tree));
}

#[test]
fn tests_that_documents_name_exist() {
    let tree = Tree::of_this_repository();
    expect_none("tests that are not there", docs::missing_tests(&tree));
}

#[test]
fn codes_of_problems_are_explained() {
    let tree = Tree::of_this_repository();
    expect_none("codes without a row", docs::unexplained_codes(&tree));
}

/// libFuzzer ends at once where the folder of inputs is missing.
#[test]
fn each_fuzzer_has_inputs_to_begin_with_and_a_row() {
    let tree = Tree::of_this_repository();
    let page = tree.root.join("docs/interoperability.md");
    let page = std::fs::read_to_string(page).unwrap();
    let makefile = std::fs::read_to_string(tree.root.join("Makefile")).unwrap();
    let fuzzers = makefile.lines().find_map(|l| l.strip_prefix("FUZZERS := "));
    let mut without = Vec::new();
    for name in fuzzers.unwrap().split(' ') {
        let inputs = std::fs::read_dir(tree.root.join("fuzz/corpus").join(name));
        let has_inputs = inputs.is_ok_and(|mut inputs| inputs.next().is_some());
        if !has_inputs || !page.contains(&format!("\n| `{name}` |")) {
            without.push(name.to_owned());
        }
    }
    expect_none("fuzzers without", without);
}

#[test]
fn crates_depend_upwards_only() {
    let packages = layers::packages_of_this_repository();
    expect_none(
        "a crate uses only crates above it",
        layers::forbidden_edges(&packages),
    );
}
