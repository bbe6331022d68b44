//! `docs/examples/proofs.py` was written after the documents alone: it takes the proofs of a chain
//! whose validators change, and none in which one value is another one.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use lamplighter_types::proof::{CertifiedHeader, ProofBundle, RecordProof};
use serde_json::json;

use crate::fixture::{TestChain, certify, validators};

/// Bundles of records of the state, there and absent, and of receipts; before and after the change.
fn bundles(chain: &TestChain) -> Vec<ProofBundle> {
    let places = [(3, 3), (3, 5), (3, 9), (5, 8), (7, 7), (7, 10)];
    let bundles = places.iter().flat_map(|(height, head)| {
        let known = chain.records(*height).into_iter().filter(|record| {
            matches!(
                record,
                RecordProof::State { .. } | RecordProof::Receipt { .. }
            )
        });
        known.map(|record| chain.bundle(record, *height, *head))
    });
    bundles.collect()
}

/// A bundle that strangers or too few made, in each place where somebody signs.
fn forged(chain: &TestChain) -> Vec<ProofBundle> {
    let strangers = [11, 12, 13, 14];
    let bundle = chain.bundle(chain.state_record(7, b"absent"), 7, 10);
    let mut all = Vec::new();
    for (nodes, name_them) in [
        (&strangers[..], true),
        (&strangers, false),
        (&[4, 5, 6], false),
    ] {
        let mut forged = bundle.clone();
        sign(&mut forged.head, nodes, name_them);
        all.push(forged);
    }
    // The first change is certified by 1 to 4: two of them are too few, and strangers are nobody.
    let mut forged = bundle.clone();
    sign(&mut forged.set_changes[0].certified, &[3, 4], false);
    all.push(forged);
    let mut forged = bundle.clone();
    let change = &mut forged.set_changes[0];
    change.in_force = validators(&strangers);
    sign(&mut change.certified, &strangers, true);
    all.push(forged);
    // A change may be left out only if enough of the trusted ones signed the next one.
    let mut forged = bundle.clone();
    forged.set_changes.remove(1);
    all.push(forged);
    all
}

/// Signs a header anew by `nodes`, which it names as the validators if `name_them`.
fn sign(certified: &mut CertifiedHeader, nodes: &[u8], name_them: bool) {
    if name_them {
        certified.header.validators_hash = validators(nodes).hash();
    }
    certified.certificate = certify(&certified.header, nodes);
}

#[test]
fn a_program_after_the_documents_takes_these_proofs_and_no_others() {
    let chain = TestChain::with_changes(11, &[(4, vec![2, 3, 4, 5]), (6, vec![3, 4, 5, 6, 7])]);
    let bundles = bundles(&chain);
    let forged = forged(&chain);
    assert!(
        forged
            .iter()
            .all(|bundle| bundle.verify(&chain.genesis).is_err())
    );
    let input = json!({ "genesis": chain.genesis, "bundles": bundles, "forged": forged });
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut program = Command::new(root.join(".venv/bin/python"))
        .arg(root.join("tests/proofs.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("scripts/setup --test installs Python");
    let mut stdin = program.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = program.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let (held, refused) = printed.trim().split_once(' ').unwrap();
    assert_eq!(held.parse::<usize>().unwrap(), bundles.len());
    assert!(
        refused.parse::<usize>().unwrap() > bundles.len() * 40,
        "{printed}"
    );
}
