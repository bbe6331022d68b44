//! `evidence`: one file about a record or a time, with every proof, for who trusts no node.
//!
//! - `file` is the form of the data and its check.
//! - `gather` asks the nodes for the records, changes and events, and for the proof of each.
//! - `page` is the readable form, made of the data alone.

mod file;
mod gather;
mod page;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lamplighter_system::files;
use lamplighter_types::proof::TrustedSet;
use lamplighter_types::{Genesis, Id};
use serde_json::json;

pub use file::EvidenceFile;
use file::EvidenceOf;
use gather::Gatherer;

use crate::failure::Failure;
use crate::keys::write_new;
use crate::output::{Output, emit, print};
use crate::session::Session;
use crate::time;

/// Bytes of a file: it stays one that a browser opens and that is sent by mail.
const FILE_BYTES_MAX: usize = 64 << 20;

/// Writes one file with the records, their changes, the transactions and receipts, and the proof of
/// each, which `audit verify` checks with nothing but the genesis file.
#[derive(Debug, Args)]
pub struct Evidence {
    /// The file to write: a page for people with the data in it (.html), or the data alone (.json).
    #[arg(long, global = true, default_value = "evidence.html")]
    to: PathBuf,
    /// The most changes and events in the file, the newest first; of a period the oldest first.
    #[arg(
        long,
        global = true,
        default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=2_000)
    )]
    changes: u32,
    /// Goes on where a file was cut: what the command printed.
    #[arg(long, global = true)]
    after: Option<String>,
    #[command(subcommand)]
    of: EvidenceCommand,
}

#[derive(Debug, Subcommand)]
enum EvidenceCommand {
    /// A device: its record and firmware, its changes and deployments, its events.
    Device { device: Id },
    /// A release: its publication, approvals and revocation.
    Release { release: Id },
    /// A rollout: its plan, approvals, pauses and end, and its release.
    Rollout { rollout: Id },
    /// An account: its roles and keys, and who changed them.
    Account { user: Id },
    /// All transactions of a time, for an auditor of the whole city.
    Period {
        /// Its begin, e.g. 2026-12-01T06:00.
        #[arg(long, value_parser = time::parse)]
        from: u64,
        /// Its end, which does not belong to it.
        #[arg(long, value_parser = time::parse)]
        until: u64,
    },
}

impl From<EvidenceCommand> for EvidenceOf {
    fn from(command: EvidenceCommand) -> Self {
        match command {
            EvidenceCommand::Device { device } => Self::Device(device),
            EvidenceCommand::Release { release } => Self::Release(release),
            EvidenceCommand::Rollout { rollout } => Self::Rollout(rollout),
            EvidenceCommand::Account { user } => Self::Account(user),
            EvidenceCommand::Period { from, until } => Self::Period {
                from_ms: from,
                until_ms: until,
            },
        }
    }
}

/// The form of a file, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Page,
    Data,
}

fn form(path: &Path) -> Result<Form, Failure> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => Ok(Form::Page),
        Some("json") => Ok(Form::Data),
        _ => Err(Failure::plain(
            "the name after --to ends with .html or .json",
        )),
    }
}

pub async fn carry_out(session: &Session, command: Evidence) -> Result<ExitCode, Failure> {
    let Evidence {
        to,
        changes,
        after,
        of,
    } = command;
    let form = form(&to)?;
    if to.exists() {
        let words = format!("{} exists already: give another --to", to.display());
        return Err(Failure::plain(words));
    }
    let missing = "evidence is checked against the genesis file: give --genesis";
    let genesis = session.genesis.as_ref();
    let genesis = genesis.ok_or_else(|| Failure::plain(missing))?;
    let of = EvidenceOf::from(of);
    let mut gatherer = Gatherer::new(session, genesis, changes as usize);
    let next = gatherer.all(&of, after).await?;
    let file = EvidenceFile::new(genesis.chain_id(), of, next, gatherer.into_items());
    let checked = file.verify(&TrustedSet::from(genesis))?;
    let bytes = match form {
        Form::Page => page::render(&file, &checked),
        Form::Data => file.to_json(),
    };
    write_new(&to, bytes.as_bytes())?;
    report(session.output, &file, &to);
    Ok(ExitCode::SUCCESS)
}

fn report(output: Output, file: &EvidenceFile, to: &Path) {
    let (count, next) = (file.items.len(), file.next.as_deref());
    let cut = match next {
        Some(next) => {
            format!(". It was cut: there is more, give --after {next} and another --to to go on")
        }
        None => String::new(),
    };
    output.answer(
        &json!({ "file": to, "items": count, "next": next }),
        &format!("{} has {count} proofs{cut}", to.display()),
    );
}

/// Checks a file of evidence in either form; `None` if it is none.
///
/// # Errors
/// Something in it is not proven, or the page around the data says something else.
pub fn verify(
    path: &Path,
    genesis: &Genesis,
    trusted: &TrustedSet,
    output: Output,
) -> Option<Result<ExitCode, Failure>> {
    let read = || -> Result<String, Failure> {
        let operation = format!("reading {}", path.display());
        files::read_text(path).map_err(Failure::during(operation))
    };
    let text = match read() {
        Ok(text) => text,
        Err(failure) => return Some(Err(failure)),
    };
    let data = match page::data(&text) {
        Some(data) => data,
        None if EvidenceFile::is_one(&text) => &text,
        None => return None,
    };
    Some(verify_data(&text, data, genesis, trusted, output))
}

fn verify_data(
    text: &str,
    data: &str,
    genesis: &Genesis,
    trusted: &TrustedSet,
    output: Output,
) -> Result<ExitCode, Failure> {
    if text.len() > 2 * FILE_BYTES_MAX {
        return Err(Failure::plain("the file is too large for evidence"));
    }
    let file = EvidenceFile::from_json(data)?;
    if file.chain_id != genesis.chain_id() {
        let words = format!(
            "the evidence is of the ledger {}, the genesis file of {}",
            file.chain_id,
            genesis.chain_id()
        );
        return Err(Failure::plain(words));
    }
    let checked = file.verify(trusted)?;
    let is_page = text.len() != data.len();
    if is_page && page::render(&file, &checked) != text {
        return Err(Failure::plain(
            "the data in the page holds, and the page around it is not the one that this version \
             makes of it: somebody changed it, or another version made it",
        ));
    }
    let count = file.items.len();
    if output.json {
        let statements: Vec<_> = checked.iter().map(|item| &item.statement).collect();
        print(
            &json!({ "holds": true, "of": file.of, "chain_id": file.chain_id, "items": count,
            "next": file.next, "statements": statements }),
        );
        return Ok(ExitCode::SUCCESS);
    }
    emit(&format!(
        "holds: evidence of {}, {count} proofs",
        file.of.words()
    ));
    checked.iter().for_each(|item| emit(&item.line()));
    if let Some(next) = &file.next {
        emit(&format!("the file was cut: there is more after {next}"));
    }
    Ok(ExitCode::SUCCESS)
}
