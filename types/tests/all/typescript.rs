//! The verifier in TypeScript (`verifier/`), written after the documents, comes to the same verdict
//! as this crate on files from a seed, and says the same about those that hold.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use lamplighter_types::json::{DOCUMENT, parse};
use lamplighter_types::proof::{ProofFile, ProofFileError, TrustedSet};
use serde_json::json;

use crate::fixture::genesis;
use crate::generator::{Case, Generator};

const SEED: &str = "lamplighter proof files 1";
const FILES: usize = 10_000;
/// The first files, of which the shortest are in the verifier's own tests: as many that hold as
/// that prove nothing.
const SAMPLED_FILES: usize = 1_200;
const SAMPLES: usize = 50;

fn verifier() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier")
}

/// What a file proves, as JSON in its one form, or why it proves nothing.
type Verdict = Result<String, ProofFileError>;

fn verdict(case: &Case, trusted: &[TrustedSet]) -> Verdict {
    let file = ProofFile::from_json(&case.file)?;
    let (proven, statement) = file.verify(&trusted[case.trusted])?;
    let verdict = json!({ "statement": statement, "trusted": proven.trusted });
    Ok(parse(&verdict.to_string(), &DOCUMENT).unwrap().canonical())
}

/// The names of the variants of an error that tell which check refused.
fn check(error: &ProofFileError) -> String {
    let text = format!("{error:?}");
    let names = text.split(|c: char| !c.is_ascii_alphanumeric());
    let names = names.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()));
    names.take(3).collect::<Vec<_>>().join(" ")
}

/// Refusals that the files have to lead to, by `check`: nearly all that there are.
const CHECKS: [&str; 29] = [
    "Malformed Json Value",
    "Malformed Json ProofBundle",
    "Unexpected",
    "NoRecord",
    "NotCanonical",
    "OtherRecord",
    "Proof Version",
    "Proof HeaderVersion",
    "Proof Chain",
    "Proof Order",
    "Proof Older",
    "Proof Untrusted",
    "Proof Validators",
    "Proof OtherHeader",
    "Proof SetSize",
    "Proof Certificate TooFew",
    "Proof Certificate Unordered",
    "Proof Certificate Foreign",
    "Proof Certificate Signature",
    "Proof NextSet",
    "Proof History Length",
    "Proof History Root",
    "Proof Record Length",
    "Proof Record Root",
    "Proof Record OtherLeaf",
    "Proof Decode",
    "Proof Transaction",
    "Statement UnknownKey",
    "Statement Record",
];

fn cases(count: usize) -> (Vec<TrustedSet>, Vec<(Case, Verdict)>) {
    let mut generator = Generator::new(SEED);
    let trusted = generator.trusted.clone();
    let cases = (0..count).map(|n| generator.case(n));
    let cases = cases.map(|case| {
        let verdict = verdict(&case, &trusted);
        (case, verdict)
    });
    (trusted.clone(), cases.collect())
}

/// The cases as the program reads them: the sets as JSON, then each file with its set and length.
fn packed(trusted: &[TrustedSet], cases: &[(Case, Verdict)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let number = |bytes: &mut Vec<u8>, n: usize| bytes.extend((n as u32).to_le_bytes());
    let sets = json!(trusted).to_string();
    number(&mut bytes, sets.len());
    bytes.extend(sets.as_bytes());
    for (case, _) in cases {
        number(&mut bytes, case.trusted);
        number(&mut bytes, case.file.len());
        bytes.extend(&case.file);
    }
    bytes
}

fn node(arguments: &[&str]) -> String {
    let output = Command::new("node")
        .args(arguments)
        .current_dir(verifier())
        .output()
        .expect("node is installed by scripts/setup --test");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{printed}\n{errors}");
    printed
}

fn run_package_tests() {
    let folder = std::fs::read_dir(verifier().join("dist/test")).unwrap();
    let names = folder.map(|file| file.unwrap().file_name().into_string().unwrap());
    let tests = names.filter(|name| name.ends_with(".test.js"));
    let tests: Vec<_> = tests.map(|name| format!("dist/test/{name}")).collect();
    let arguments = ["--experimental-vm-modules", "--no-warnings", "--test"]
        .into_iter()
        .chain(tests.iter().map(String::as_str));
    node(&arguments.collect::<Vec<_>>());
}

#[test]
fn the_verifier_in_typescript_comes_to_the_same_verdicts() {
    node(&["build.mjs"]);
    run_package_tests();
    let (trusted, cases) = cases(FILES);
    let checks = check_verdicts(&cases);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&packed(&trusted, &cases)).unwrap();
    let printed = node(&["dist/test/verdicts.js", file.path().to_str().unwrap()]);
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), FILES);
    for (n, ((case, verdict), line)) in cases.iter().zip(&lines).enumerate() {
        let text = || String::from_utf8_lossy(&case.file).into_owned();
        match (verdict, line.strip_prefix("holds ")) {
            (Ok(wanted), Some(stated)) => assert_eq!(wanted, stated, "file {n}"),
            (Err(_), None) => (),
            (Ok(_), None) => panic!("file {n} holds, and it says {line}: {}", text()),
            (Err(why), Some(_)) => {
                panic!(
                    "file {n} proves nothing ({why:?}), and it says that it holds: {}",
                    text()
                )
            }
        }
    }
    println!("{checks:#?}");
}

/// Checks that all files that were not changed hold, and some others, and that the rest fails in
/// every way.
fn check_verdicts(cases: &[(Case, Verdict)]) -> BTreeMap<String, usize> {
    let mut checks = BTreeMap::new();
    let mut held_changed = 0;
    for (n, (case, verdict)) in cases.iter().enumerate() {
        match verdict {
            Ok(_) => held_changed += n % 2,
            Err(why) => {
                let text = String::from_utf8_lossy(&case.file);
                assert!(n % 2 == 1, "file {n} was not changed: {why:?} {text}");
                *checks.entry(check(why)).or_default() += 1;
            }
        }
    }
    println!("{held_changed} changed files hold");
    assert!(held_changed > FILES / 100 && held_changed < FILES / 4);
    for wanted in CHECKS {
        let found = checks
            .keys()
            .any(|check: &String| check.starts_with(wanted));
        assert!(found, "no file is refused by {wanted}: {checks:#?}");
    }
    checks
}

#[test]
fn the_samples_of_the_verifier_are_of_this_seed() {
    let (trusted, mut cases) = cases(SAMPLED_FILES);
    cases.sort_by_key(|(case, _)| case.file.len());
    let sample = |(case, verdict): &(Case, Verdict)| {
        let file = String::from_utf8(case.file.clone()).ok()?;
        Some(
            json!({ "trusted": case.trusted, "file": file, "verdict": verdict.as_ref().ok() })
                .to_string(),
        )
    };
    let of = |holds: bool| {
        let cases = cases
            .iter()
            .filter(move |(_, verdict)| verdict.is_ok() == holds);
        cases.filter_map(sample).take(SAMPLES)
    };
    let samples: Vec<_> = of(true).chain(of(false)).collect();
    let sets = json!(trusted).to_string();
    let text = format!(
        "{{\"genesis\":{},\"trusted\":{sets},\"samples\":[\n{}\n]}}\n",
        json!(genesis()),
        samples.join(",\n")
    );
    let path = verifier().join("test/samples.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(text.len() < 300 * 1024, "{} bytes", text.len());
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text);
}
