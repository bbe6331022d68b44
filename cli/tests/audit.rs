//! `audit verify` prints what is proven, and no other content of the file.

use std::path::Path;
use std::process::{Command, Output};

use lamplighter_types::merkle::{StateProof, list, sparse};
use lamplighter_types::proof::*;
use lamplighter_types::*;
use serde_json::{Value, json};

fn id(name: &str) -> Id {
    Id::new(name).unwrap()
}

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn genesis() -> Genesis {
    Genesis {
        version: GENESIS_VERSION,
        name: "Harbour City".to_owned(),
        created_ms: 1_790_000_000_000,
        validators: set(1),
        organization: id("city"),
        accounts: vec![GenesisAccount {
            account: id("admin"),
            name: "Administrator".to_owned(),
            key: secret(2).public(),
            grants: vec![Grant::founding(Role::Administrator, Scope::city())],
        }],
        policies: Policies::default(),
    }
}

/// The set of one node.
fn set(n: u8) -> ValidatorSet {
    ValidatorSet {
        validators: vec![Validator {
            node: n.into(),
            account: id(&format!("node-{n}")),
            key: secret(n).public(),
            address: format!("127.0.0.1:740{n}"),
        }],
    }
}

fn deployment() -> Deployment {
    Deployment {
        rollout: id("spring-update"),
        device: id("lamp-001"),
        release: id("lamp-2.0.0"),
        state: DeploymentState::Confirmed,
        assigned_height: 2,
        steps: Vec::new(),
        retries: 0,
        postponed_count: 0,
        postponed_until_ms: None,
        postponed_from: None,
        first_offered_ms: None,
        deadline_ms: None,
    }
}

/// Proof of what is under `key` in a block whose state has the deployment alone.
fn bundle(key: &[u8]) -> ProofBundle {
    let stored = b"\x31spring-update\0lamp-001\0";
    let value = codec::encode(&deployment());
    let digests = (Hash::of(stored), Hash::of(&value));
    let is_there = key == stored;
    ProofBundle {
        version: PROOF_VERSION,
        record: RecordProof::State {
            key: key.to_vec().into(),
            value: is_there.then(|| value.into()),
            path: StateProof {
                siblings: Vec::new(),
                other: (!is_there).then_some(merkle::OtherLeaf {
                    key: digests.0,
                    value: digests.1,
                }),
            },
        },
        ancestor: None,
        head: certified(3, 1, digests),
        set_changes: Vec::new(),
    }
}

/// A header that node `n` certified, whose state has one record.
fn certified(height: u64, n: u8, record: (Hash, Hash)) -> CertifiedHeader {
    let empty = list::block_root(std::iter::empty::<&[u8]>());
    let header = Header {
        version: HEADER_VERSION,
        chain_id: genesis().chain_id(),
        height,
        parent: Hash::ZERO,
        timestamp_ms: 1_790_000_000_000 + height * 1_000,
        tx_root: empty,
        receipt_root: empty,
        event_root: empty,
        state_root: sparse::leaf(&record.0, &record.1),
        history_root: Hash::ZERO,
        validators_hash: set(n).hash(),
        batch: Hash::of(b"batch"),
        position: Hash::of(b"position"),
    };
    let attestation = Attestation::sign(height, header.hash(), &secret(n));
    let certificate = Certificate::from_attestations(height, header.hash(), &[attestation]);
    CertifiedHeader {
        header,
        certificate,
    }
}

/// The same record after node 2 has replaced node 1 at height 5.
fn replaced() -> ProofBundle {
    let mut bundle = bundle(b"\x31spring-update\0lamp-001\0");
    let next = codec::encode(&set(2));
    let digests = (Hash::of(VALIDATOR_SET_KEY), Hash::of(&next));
    bundle.set_changes = vec![SetChange {
        certified: certified(5, 1, digests),
        in_force: set(1),
        next: set(2),
        path: StateProof {
            siblings: Vec::new(),
            other: None,
        },
    }];
    let RecordProof::State { key, value, .. } = &bundle.record else {
        panic!("a record of the state");
    };
    let value = &value.as_ref().unwrap().0;
    bundle.head = certified(7, 2, (Hash::of(&key.0), Hash::of(value)));
    bundle
}

fn verify(folder: &Path, file: &Value, more: &[&str]) -> Output {
    std::fs::write(folder.join("proof.json"), file.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command
        .args(["audit", "verify", "--genesis", "genesis.json", "proof.json"])
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn held(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn audit_verify_prints_the_statement_and_refuses_forged_fields() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("genesis.json"), json!(genesis()).to_string()).unwrap();
    let proof = bundle(b"\x31spring-update\0lamp-001\0");
    let answer = json!({ "record": deployment(), "proof": proof });

    let output = held(verify(folder, &answer, &[]));
    for part in [
        "holds: deployment of device lamp-001, rollout spring-update\n",
        "in block 3 of 2026-09-21T14:13:23.000Z\n",
        "signed by node-1 (node 1)\n",
        "\"state\": \"confirmed\"",
    ] {
        assert!(output.contains(part), "{part:?} in {output}");
    }
    let output = held(verify(folder, &json!(proof), &["--json"]));
    let output: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(output["kind"], "deployment");
    let of = json!({ "rollout": "spring-update", "device": "lamp-001" });
    assert_eq!(
        (&output["of"], &output["record"]),
        (&of, &json!(deployment()))
    );
    let signers = json!([{ "node": 1, "account": "node-1", "key": secret(1).public() }]);
    assert_eq!(
        (&output["time_ms"], &output["signers"]),
        (&json!(1_790_000_003_000u64), &signers)
    );

    let mut forged = answer.clone();
    forged["record"]["state"] = json!("failed");
    let output = refused(verify(folder, &forged, &[]));
    let wanted = "record.state is \"failed\" in the file, \"confirmed\" is proven";
    assert!(output.contains(wanted), "{output}");
    let mut forged = answer.clone();
    forged["record"]["device"] = json!("lamp-099");
    refused(verify(folder, &forged, &["--json"]));
    let mut more = answer.clone();
    more["height"] = json!(9);
    assert!(refused(verify(folder, &more, &[])).contains("\"height\""));
}

#[test]
fn a_proof_of_absence_is_printed_as_absence() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("genesis.json"), json!(genesis()).to_string()).unwrap();
    let absent = bundle(b"\x31spring-update\0lamp-002\0");
    let output = held(verify(folder, &json!(absent), &[]));
    let wanted = "holds: there is no deployment of device lamp-002, rollout spring-update\n";
    assert!(output.starts_with(wanted), "{output}");
    let claimed = json!({ "record": deployment(), "proof": absent });
    refused(verify(folder, &claimed, &[]));
    // A key that no contract has: true, and not to be understood.
    let output = refused(verify(folder, &json!(bundle(b"\xee")), &[]));
    assert!(
        output.contains("the proven key ee is of no kind"),
        "{output}"
    );
}

/// An auditor keeps the newest validators. The keys of those before, stolen since, prove nothing.
#[test]
fn audit_verify_keeps_the_newest_validators_and_refuses_older_ones() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("genesis.json"), json!(genesis()).to_string()).unwrap();
    let first = json!(bundle(b"\x31spring-update\0lamp-001\0"));
    let newer = json!(replaced());
    let trusted = ["--trusted", "trusted.json"];
    let update = ["--trusted", "trusted.json", "--update-trusted"];
    let output = refused(verify(folder, &first, &trusted));
    assert!(output.contains("there is no file trusted.json"), "{output}");
    refused(verify(folder, &first, &["--update-trusted"]));
    let output = held(verify(folder, &first, &update));
    assert!(
        output.contains("the validators of the genesis file are the newest"),
        "{output}"
    );
    assert!(!folder.join("trusted.json").exists());

    let output = held(verify(folder, &newer, &update));
    for part in [
        "under the head 7 of 2026-09-21T14:13:27.000Z, signed by node-2 (node 2)\n",
        "validators changed after block 5",
        "trusted.json has the validators of height 5, before 0\n",
    ] {
        assert!(output.contains(part), "{part:?} in {output}");
    }
    let kept = std::fs::read(folder.join("trusted.json")).unwrap();
    let kept = TrustedSet::from_json(&kept, &genesis()).unwrap();
    assert_eq!((kept.height, kept.set), (5, set(2)));
    let output = held(verify(folder, &newer, &trusted));
    assert!(
        output.contains("trusted before: the validators of height 5\n"),
        "{output}"
    );
    let output = held(verify(
        folder,
        &newer,
        &[&trusted[..], &["--json"]].concat(),
    ));
    let output: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (&output["trusted_height"], &output["set_changes"]),
        (&json!(5), &json!([]))
    );

    // True once, and now only for those who have seen nothing newer.
    held(verify(folder, &first, &[]));
    let output = refused(verify(folder, &first, &trusted));
    assert!(
        output.contains("older than the validators of height 5"),
        "{output}"
    );
    // Signed today with the key of node 1.
    let mut forged = replaced();
    forged.set_changes.clear();
    let RecordProof::State { key, value, .. } = &forged.record else {
        panic!("a record of the state");
    };
    let record = (Hash::of(&key.0), Hash::of(&value.as_ref().unwrap().0));
    forged.head = certified(9_000, 1, record);
    held(verify(folder, &json!(forged), &[]));
    let output = refused(verify(folder, &json!(forged), &update));
    assert!(output.contains("names other validators"), "{output}");
    std::fs::write(folder.join("trusted.json"), "{}").unwrap();
    refused(verify(folder, &newer, &update));
}
