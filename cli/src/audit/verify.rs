//! `audit verify`: a proof, or a file of evidence, against the genesis file, offline.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lamplighter_system::files;
use lamplighter_types::proof::ProofFile;
use serde_json::json;

use crate::evidence;
use crate::failure::Failure;
use crate::proof::{print_statement, report_trusted};
use crate::session::SessionArguments;

#[derive(Debug, Args)]
pub struct Verify {
    /// The file: as a node answers `?proof=true`, as `proof get` writes it, or one of `evidence`.
    file: PathBuf,
}

pub fn carry_out(command: &Verify, session: &SessionArguments) -> Result<ExitCode, Failure> {
    let Verify { file } = command;
    let genesis = session.read_genesis()?;
    let anchor = session.trust_anchor(&genesis)?;
    let trusted = anchor.current();
    if let Some(verdict) = evidence::verify(file, &genesis, &trusted, session.output()) {
        return verdict;
    }
    let operation = format!("reading {}", file.display());
    let text = files::read_text(file).map_err(Failure::during(operation))?;
    let nothing = || Failure::during(format!("{} proves nothing", file.display()));
    let proof = ProofFile::from_json(text.as_bytes()).map_err(nothing())?;
    let before = trusted.height;
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
