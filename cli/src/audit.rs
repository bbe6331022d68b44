//! `audit verify`: a proof against the genesis file, offline.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_system::files;
use lamplighter_types::proof::ProofFile;
use serde_json::json;

use crate::failure::Failure;
use crate::proof::{print_statement, report_trusted};
use crate::session::SessionArguments;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Checks a proof (JSON) with nothing but the genesis file of `--genesis`, or with newer
    /// validators of `--trusted` as well, and prints what it proves: the record as decoded from
    /// the proof, its block, and who signed. All other fields of the file must agree with it.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The file: as a node answers `?proof=true`, or as `proof get` writes it.
    file: PathBuf,
}

pub fn carry_out(command: &AuditCommand, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let AuditCommand::Verify(Verify { file }) = command;
    let genesis = session.read_genesis()?;
    let operation = format!("reading {}", file.display());
    let text = files::read_text(file).map_err(Failure::during(operation))?;
    let nothing = || Failure::during(format!("{} proves nothing", file.display()));
    let proof = ProofFile::from_json(text.as_bytes()).map_err(nothing())?;
    let anchor = session.trust_anchor(&genesis)?;
    let before = anchor.current().height;
    let statement = anchor.verify(|trusted| {
        let (proven, statement) = proof.verify(trusted).map_err(nothing())?;
        Ok::<_, Failure>((statement, proven.trusted))
    })?;
    print_statement(&statement, json!({}), session.output());
    report_trusted(
        session.updated_file(),
        before,
        &anchor.current(),
        session.output(),
    );
    Ok(ExitCode::SUCCESS)
}
