//! `audit verify`: a proof bundle against the genesis file, offline.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_types::proof::{ProofBundle, ProvenRecord};
use lamplighter_types::{Genesis, codec};
use serde_json::json;

use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Checks a proof bundle (JSON) with nothing but the genesis file.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The genesis file, the trust root.
    #[arg(long)]
    genesis: PathBuf,
    /// The bundle, as a node gives it with `?proof=true`.
    bundle: PathBuf,
    #[arg(long)]
    json: bool,
}

pub fn carry_out(command: &AuditCommand) -> Result<ExitCode, Failure> {
    let AuditCommand::Verify(Verify {
        genesis,
        bundle,
        json,
    }) = command;
    let read = |path: &PathBuf| {
        fs::read(path).map_err(Failure::doing(format!("reading {}", path.display())))
    };
    let genesis: Genesis = codec::decode_json(&read(genesis)?)
        .map_err(Failure::doing("the genesis file is not usable"))?;
    genesis
        .check()
        .map_err(Failure::doing("the genesis file contradicts itself"))?;
    let bundle = read_bundle(&read(bundle)?)?;
    let proven = bundle
        .verify(&genesis)
        .map_err(Failure::doing("the proof does not hold"))?;
    let kind = match &proven.record {
        ProvenRecord::Transaction { .. } => "a transaction",
        ProvenRecord::Receipt { .. } => "a receipt",
        ProvenRecord::Event { .. } => "a device event",
        ProvenRecord::State { value: Some(_), .. } => "a record of the state",
        ProvenRecord::State { value: None, .. } => "the absence of a record",
    };
    if *json {
        let told = json!({ "holds": true, "record": kind, "height": proven.height,
            "head_height": proven.head_height, "head": proven.head,
            "signers": bundle.head.certificate.signatures.len() });
        println!("{told}");
    } else {
        println!(
            "holds: {kind} of block {}, under the head {} certified by {} validators",
            proven.height,
            proven.head_height,
            bundle.head.certificate.signatures.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A bundle alone, or beside the record that it proves.
fn read_bundle(bytes: &[u8]) -> Result<ProofBundle, Failure> {
    let inner = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let inner = inner.and_then(|mut value| value.as_object_mut()?.remove("proof"));
    let bytes = match inner {
        Some(proof) => proof.to_string().into_bytes(),
        None => bytes.to_vec(),
    };
    ProofBundle::from_json(&bytes).map_err(Failure::doing("the file is no proof bundle"))
}
