//! A proof from a node: bundles in both encodings, files of proofs, and messages of work, verified
//! as by a program that has a genesis file.
#![no_main]

use std::sync::LazyLock;

use lamplighter_types::proof::{ProofBundle, ProofFile};
use lamplighter_types::wire::work::WorkMessage;
use lamplighter_types::{Genesis, Id};
use libfuzzer_sys::fuzz_target;

static GENESIS: LazyLock<Genesis> = LazyLock::new(|| {
    let text = include_bytes!("../genesis.json");
    lamplighter_types::codec::decode_json(text).expect("a genesis file is beside the fuzzers")
});
static GATEWAY: LazyLock<Id> = LazyLock::new(|| Id::new("gw-1").expect("it is an id"));

fuzz_target!(|bytes: &[u8]| {
    let bundles = [
        ProofBundle::from_bytes(bytes),
        ProofBundle::from_json(bytes),
    ];
    for bundle in bundles.into_iter().flatten() {
        bundle.verify(&*GENESIS).ok();
        let again = ProofBundle::from_bytes(&bundle.to_bytes());
        assert_eq!(again.ok(), Some(bundle));
    }
    if let Ok(file) = ProofFile::from_json(bytes) {
        file.into_proof().verify(&*GENESIS).ok();
    }
    if let Ok(work) = WorkMessage::from_json(bytes, &GATEWAY) {
        work.proofs.verify(&*GENESIS).ok();
    }
});
