//! The rules at work on planted samples: each finds what it is for, and nothing else.

use crate::glossary::Glossary;
use crate::layers::{Package, forbidden_edges};
use crate::scan::{Function, blank, functions};
use crate::tree::{Tree, root};
use crate::{docs, names, rules};

const CODE: &str = "types/src/sample.rs";
const TEST: &str = "types/src/tests.rs";

fn found(rule: fn(&Tree) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Tree::of(&[(path, text)])).len()
}

#[test]
fn blanking_keeps_code_and_lines_only() {
    let text = concat!(
        "let a = \"x } // \\\" y\"; // { comment\n",
        "let b = r#\"raw \" { \"#; let c = b'{'; let d = '\\'';\n",
        "/* { /* nested */ { */ let e = 1;\n",
        "fn f<'a>(bar: &'a str, r: u8) -> char { '\"' }\n",
        "let g = \"two\nlines {\"; let h = br\"{\"; let i = '{'; let j = c\"{\";\n",
    );
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    assert_eq!(code.chars().count(), text.chars().count());
    assert_eq!(code.matches(['{', '}', '"']).collect::<String>(), "{}");
    for kept in [
        "let a",
        "let b",
        "let c",
        "let d",
        "let e = 1;",
        "<'a>(bar: &'a str",
        "let j",
    ] {
        assert!(code.contains(kept), "{kept} in {code}");
    }
    assert!(!code.contains("comment") && !code.contains("nested") && !code.contains("raw"));
}

#[test]
fn functions_are_measured_from_fn_to_closing_brace() {
    let text = concat!(
        "trait T { fn declared(&self) -> [u8; 3]; }\n",
        "pub async fn outer(\n    a: [u8; 2],\n) -> u8 {\n",
        "    fn inner() { 1 }\n    if x { y }\n}\n",
        "impl X { pub const fn one_line() -> u8 { 3 } }\n",
        "type Callback = fn(u8) -> u8;\n",
    );
    let expected = [("outer", 1, 6), ("inner", 4, 1), ("one_line", 7, 1)];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(name, line, lines)| Function {
            name: name.into(),
            line,
            lines,
        })
        .collect();
    assert_eq!(functions(&blank(text)), expected);
}

#[test]
fn long_functions_are_found() {
    let of = |lines: usize| format!("fn f() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
    assert_eq!(found(rules::long_functions, CODE, &of(70)), 0);
    assert_eq!(found(rules::long_functions, CODE, &of(71)), 1);
    assert_eq!(found(rules::long_functions, TEST, &of(71)), 0);
    let tree = Tree::of(&[(CODE, &format!("\n{}", of(80)))]);
    assert_eq!(
        rules::long_functions(&tree),
        ["types/src/sample.rs:2: f has 80 lines"]
    );
}

#[test]
fn long_files_are_found() {
    assert_eq!(found(rules::long_files, CODE, &"\n".repeat(500)), 0);
    assert_eq!(found(rules::long_files, CODE, &"\n".repeat(501)), 1);
    assert_eq!(found(rules::long_files, TEST, &"\n".repeat(800)), 0);
    assert_eq!(found(rules::long_files, TEST, &"\n".repeat(801)), 1);
    assert_eq!(
        found(
            rules::long_files,
            "console/src/page.svelte",
            &"\n".repeat(501)
        ),
        1
    );
    assert_eq!(
        found(rules::long_files, "docs/long.md", &"\n".repeat(5000)),
        0
    );
}

#[test]
fn wide_lines_are_found() {
    assert_eq!(found(rules::wide_lines, CODE, &"ä ".repeat(50)), 0);
    assert_eq!(found(rules::wide_lines, CODE, &"ä ".repeat(51)), 1);
    assert_eq!(found(rules::wide_lines, CODE, &"a".repeat(101)), 1);
    assert_eq!(found(rules::wide_lines, TEST, &"a".repeat(101)), 0);
    assert_eq!(
        found(
            rules::wide_lines,
            CODE,
            &format!("// https://{}", "a".repeat(99))
        ),
        0
    );
    assert_eq!(
        found(
            rules::wide_lines,
            CODE,
            &format!("//! | {}", "a ".repeat(99))
        ),
        0
    );
}

#[test]
fn unwraps_are_found() {
    assert_eq!(found(rules::unwraps, CODE, "let a = b.unwrap();"), 1);
    assert_eq!(
        found(rules::unwraps, CODE, "a\n    .unwrap()\n    .unwrap_err();"),
        2
    );
    assert_eq!(
        found(
            rules::unwraps,
            CODE,
            "b.unwrap_or(1); // .unwrap()\n\".unwrap()\";"
        ),
        0
    );
    assert_eq!(found(rules::unwraps, TEST, "let a = b.unwrap();"), 0);
}

#[test]
fn tests_below_the_code_are_found() {
    assert_eq!(
        found(rules::inline_tests, CODE, "#[cfg(test)]\nmod tests {\n}\n"),
        1
    );
    assert_eq!(
        found(
            rules::inline_tests,
            CODE,
            "#[cfg(test)]\n#[allow(x)]\n\nmod a {}"
        ),
        1
    );
    assert_eq!(
        found(
            rules::inline_tests,
            CODE,
            "#[cfg(test)] pub(crate) mod tests {"
        ),
        1
    );
    assert_eq!(
        found(rules::inline_tests, CODE, "#[cfg(test)]\nmod tests;\n"),
        0
    );
    assert_eq!(
        found(
            rules::inline_tests,
            CODE,
            "#[cfg(test)]\nfn helper() {}\nmod a {}"
        ),
        0
    );
}

#[test]
fn deep_files_are_found() {
    assert_eq!(found(rules::deep_files, "types/src/a/b/c.rs", ""), 0);
    assert_eq!(found(rules::deep_files, "types/src/a/b/c/d.rs", ""), 1);
}

#[test]
fn left_overs_are_found() {
    let mark = ["TO", "DO"].concat();
    assert_eq!(
        found(rules::left_overs, CODE, &format!("// {mark}: later")),
        1
    );
    assert_eq!(found(rules::left_overs, "docs/a.md", &mark), 1);
    assert_eq!(
        found(rules::left_overs, CODE, &format!("{mark}S METHODICAL")),
        0
    );
    assert_eq!(
        found(
            rules::left_overs,
            TEST,
            &format!("{}1)", ["dbg", "!("].concat())
        ),
        1
    );
    assert_eq!(found(rules::left_overs, CODE, &["to", "do!()"].concat()), 1);
}

#[test]
fn texts_made_by_debug_are_found_in_contracts() {
    let text = "let text = format!(\"{kind:?}\");";
    assert_eq!(found(rules::debug_texts, "contracts/src/a/b.rs", text), 1);
    assert_eq!(
        found(rules::debug_texts, "contracts/src/a/tests.rs", text),
        0
    );
    assert_eq!(found(rules::debug_texts, "ledger/src/a.rs", text), 0);
}

#[test]
fn paths_of_one_machine_are_found() {
    let path = ["/wo", "rk/main"].concat();
    for text in [format!("see {path}"), path.clone(), format!("\"{path}\"")] {
        assert_eq!(
            found(rules::absolute_paths, "docs/a.md", &text),
            1,
            "{text}"
        );
    }
    assert_eq!(
        found(
            rules::absolute_paths,
            CODE,
            &format!("gw/{{gw}}{path} a/b{path}")
        ),
        0
    );
}

/// Findings of a rule in one file, beside a glossary that refuses a few words.
fn found_by_glossary(rule: fn(&Tree) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    let glossary = "## Words\n| word | what | not |\n|---|---|---|\n\
        | **receipt** | outcome | result, `grant` |\n| release | free | `let_go`, `hand()` |\n\
        One type each: `Inner`.\n\
        ## Next\n| a | b | `free` |\n";
    rule(&Tree::of(&[("CONTRIBUTING.md", glossary), (path, text)]))
}

#[test]
fn refused_names_of_each_kind_are_found() {
    for text in [
        "fn grant() {}",
        "impl A { fn do_grants(&self) {} }",
        "impl A { const GRANT: u8 = 1; }",
        "struct GrantId;",
        "struct A { last_grant: u8 }",
        "enum Grant {}",
        "enum A { Grant(u8) }",
        "enum A { B { grant: u8 } }",
        "trait Grant {}",
        "trait A { fn grant(&self); }",
        "trait A { type Grant; }",
        "type Grant = u8;",
        "const GRANT_MAX: u8 = 1;",
        "static GRANT: u8 = 1;",
        "mod grant {}",
        "use a::b as grant;",
        "fn f(grant: u8) {}",
        "fn f() { let (a, grant) = b; }",
        "fn f() { c(|grant| 1); }",
        "fn f() { match a { Some(grant) => 1, None => 2 } }",
        "fn f() { for grant in a {} }",
        "proptest! { fn grant(a in b) {} }",
        "fn f() { run! { let mut grant = 1; } }",
        "macro_rules! grant { () => {} }",
        "fn let_go_all() {}",
        "fn hand() {}",
    ] {
        for path in [CODE, TEST] {
            let found = found_by_glossary(names::refused_names, path, text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
        }
    }
    for path in ["types/src/grant.rs", "types/src/grants/mod.rs"] {
        assert_eq!(found_by_glossary(names::refused_names, path, "").len(), 1);
    }
    let found = found_by_glossary(names::refused_names, CODE, "\nstruct GrantId;");
    assert_eq!(
        found,
        ["types/src/sample.rs:2: `GrantId`: not `grant`, use receipt"]
    );
}

#[test]
fn names_of_others_and_advice_are_not_refused() {
    for text in [
        "impl Foreign for A { fn grant(&self) {} type Grant = u8; const GRANT: u8 = 1; }",
        "fn f() { a.grant(); grant::b(); let c = Grant { grant: 1 }; }",
        "fn f() { match a { GRANT => 1, Foreign::Grant => 2 } }",
        "fn f() -> &'static str { \"grant\" } // grant",
        "fn result() { let free = 1; let granted = 2; let grantor = 3; }",
        "fn left() { let hand = 1; by_hand(); } fn hand_over() {} fn let_it_go() {}",
        "use grant::Grant;",
    ] {
        let found = found_by_glossary(names::refused_names, CODE, text);
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn the_glossary_of_this_repository_is_read() {
    let text = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let glossary = Glossary::parse(&text);
    assert!(glossary.count() > 50, "only {} words", glossary.count());
    assert!(!glossary.one_type_each.is_empty());
    for name in ["chaincode_id", "StartCampaigns", "ASSET", "told_height"] {
        assert!(glossary.refused(name).is_some(), "{name}");
    }
    for name in ["asserted", "foreshadow", "owner", "landmark"] {
        assert!(glossary.refused(name).is_none(), "{name}");
    }
}

#[test]
fn general_type_names_that_return_are_found() {
    let repeated = |text| found_by_glossary(names::repeated_types, CODE, text);
    assert!(repeated("struct Inner; struct Outer; mod a { struct Outer; }").is_empty());
    let found = repeated("struct Inner;\nmod a {\nenum Inner {} }");
    assert_eq!(
        found,
        ["Inner: types/src/sample.rs:1, types/src/sample.rs:3"]
    );
}

#[test]
fn inverted_openings_are_found() {
    let openings = |text| found(names::inverted_openings, CODE, text);
    assert_eq!(openings("//! Whom a node asks.\nuse a;"), 1);
    assert_eq!(
        openings("struct A {\n    /// Of each node.\n    b: u8,\n}"),
        1
    );
    assert_eq!(
        openings("/// Those who vote.\nfn a() {}\n/// Who votes.\nfn b() {}"),
        2
    );
    assert_eq!(
        openings("/// The nodes.\n/// Those who vote.\nfn a() {}"),
        0
    );
    assert_eq!(openings("/// Offsets.\nfn a() {} // Who\n// Who votes."), 0);
}

#[test]
fn broken_links_are_found() {
    let text = "[a](CONTRIBUTING.md) [b](docs/adr/0000-template.md#decision) ![c](/LICENSE)\n\
        [d](https://example.org/x) [e](#here) `[f](code)`\n```\n[g](code)\n```\n[h](missing.md)";
    let tree = Tree::of(&[("README.md", text)]);
    assert_eq!(docs::broken_links(&tree), ["README.md:6: missing.md"]);
    assert_eq!(
        found(docs::broken_links, "docs/adr/x.md", "[a](0000-template.md)"),
        0
    );
    assert_eq!(
        found(docs::broken_links, "docs/adr/x.md", "[a](CONTRIBUTING.md)"),
        1
    );
}

#[test]
fn tests_that_are_not_there_are_found() {
    let page =
        "| `a_test_of_ours` | `a_test_that_left` |\n`void_batch`, `make test`, a_word_or_two";
    let code = "#[test]\nfn a_test_of_ours() {}\n";
    let tree = Tree::of(&[("docs/security.md", page), (TEST, code)]);
    assert_eq!(
        docs::missing_tests(&tree),
        ["docs/security.md:1: no test a_test_that_left"]
    );
    assert_eq!(found(docs::missing_tests, "README.md", page), 0);
}

#[test]
fn codes_without_a_row_are_found() {
    let page = "| 503 | `busy` | wait |\nnot halted";
    let codes = "pub mod code {\n    pub const A: &str = \"busy\";\n    pub const B: &str = \
        \"halted\";\n}\npub const C: &str = \"admission.\";";
    let tree = Tree::of(&[("docs/api.md", page), ("types/src/wire/problem.rs", codes)]);
    assert_eq!(
        docs::unexplained_codes(&tree),
        ["docs/api.md has no `halted`"]
    );
}

#[test]
fn edges_against_the_layers_are_found() {
    let edges = |name: &str, used: &str| {
        let package = Package {
            name: name.into(),
            uses: vec![used.into()],
        };
        forbidden_edges(&[package]).len()
    };
    for (name, used) in [
        ("state", "store"),
        ("cli", "devnet"),
        ("gateway", "client"),
        ("node", "rocks"),
        ("benches", "rocks"),
    ] {
        assert_eq!(edges(name, used), 0, "{name} uses {used}");
    }
    for (name, used) in [
        ("store", "state"),
        ("client", "cli"),
        ("types", "types"),
        ("consensus", "state"),
        ("consensus", "contracts"),
        ("ledger", "rocks"),
        ("state", "unknown"),
        ("unknown", "types"),
    ] {
        assert_eq!(edges(name, used), 1, "{name} uses {used}");
    }
}
