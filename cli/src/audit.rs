//! `audit verify`: a proof bundle against the genesis file, offline.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_types::proof::{ProofBundle, ProvenRecord};
use serde_json::json;

use crate::failure::Failure;
use crate::output::{emit, print};
use crate::session::SessionArguments;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Checks a proof bundle (JSON) with nothing but the genesis file given by `--genesis`.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The bundle, as a node gives it with `?proof=true`.
    bundle: PathBuf,
}

pub fn carry_out(command: &AuditCommand, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let AuditCommand::Verify(Verify { bundle }) = command;
    let genesis = session.read_genesis()?;
    let bytes =
        fs::read(bundle).map_err(Failure::doing(format!("reading {}", bundle.display())))?;
    let bundle = read_bundle(&bytes)?;
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
    let signers = bundle.head.certificate.signatures.len();
    let (height, head_height) = (proven.height, proven.head_height);
    match session.output().json {
        true => print(&json!({ "holds": true, "record": kind, "height": height,
            "head_height": head_height, "head": proven.head, "signers": signers })),
        false => emit(&format!(
            "holds: {kind} of block {height}, under the head {head_height} certified by \
             {signers} validators"
        )),
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
