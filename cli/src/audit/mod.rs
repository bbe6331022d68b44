//! `audit`: proofs checked offline, and the whole ledger executed again.
//!
//! - `verify` checks a file of proofs.
//! - `ledger` is the audit of all blocks.
//! - `source` brings the blocks, from nodes or from a folder.
//! - `restore` makes the data directory of a node of an archive.

mod ledger;
mod restore;
mod source;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

pub use restore::{Restored, restore};

use crate::failure::Failure;
use crate::session::SessionArguments;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Checks a proof (JSON) with nothing but the genesis file of `--genesis`, or with newer
    /// validators of `--trusted` as well, and prints what it proves: the record as decoded from
    /// the proof, its block, and who signed. All other fields of the file must agree with it. Of a
    /// file of evidence every proof is checked, and that its page shows nothing else.
    Verify(verify::Verify),
    /// Executes every block again, from the genesis file up, and compares everything that the
    /// headers say: each transaction with its signature, each receipt, every root, the chain of the
    /// headers, every certificate and every change of the validators. Prints the first difference
    /// and exits with 5. The account needs the whole city as auditor, or a role that reads as much.
    Ledger(ledger::LedgerAudit),
}

pub async fn carry_out(
    command: AuditCommand,
    session: &SessionArguments,
) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Verify(command) => verify::carry_out(&command, session),
        AuditCommand::Ledger(command) => ledger::carry_out(command, session).await,
    }
}
