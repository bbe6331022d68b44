//! `device register`: devices from a file. The same command can be run again after a part of them
//! was registered.
//!
//! First everything that can be known is checked: all rows against the file itself and against the
//! ledger. When a row is wrong, nothing is sent. Then the new devices are sent, some hundred in a
//! transaction, and each transaction is executed as a whole or not at all.

pub(crate) mod file;
mod ledger;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lamplighter_types::limits::TRANSACTION_BYTES_MAX;
use lamplighter_types::{Action, DevicesAction, Hash, NewDevice, codec};
use serde_json::json;

use crate::failure::Failure;
use crate::output::print;
use crate::session::Session;

/// Devices of one transaction.
const DEVICES_PER_TRANSACTION: usize = 500;
/// Their bytes, below the limit of a transaction by what else is in one.
const DEVICE_BYTES_PER_TRANSACTION: usize = TRANSACTION_BYTES_MAX - 4_096;
/// Wrong rows that are printed; with more of them the file is of another kind.
const PROBLEMS_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub struct Register {
    /// A list of devices, JSON or CSV: device, owner, model, hardware_class, district, tags, and,
    /// if wanted, gateway and key. CSV has them in its first line, and may have columns `tag.NAME`.
    file: PathBuf,
    /// Checks the file against the ledger and prints what would be registered; sends nothing.
    #[arg(long)]
    dry_run: bool,
    /// Leaves devices alone that are registered with another content; else they are errors. Those
    /// with the same content are always left out.
    #[arg(long)]
    skip_existing: bool,
}

/// Where a device stands in its file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The number of a device in a list.
    Row(usize),
    /// The line of a table on which its record begins.
    Line(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(number) => write!(f, "row {number}"),
            Self::Line(number) => write!(f, "line {number}"),
        }
    }
}

/// A device with its place in the file.
#[derive(Clone, Debug)]
pub struct Row {
    pub place: Place,
    pub device: NewDevice,
}

/// An error in a row.
#[derive(Debug)]
pub struct Problem {
    pub place: Place,
    /// Begins with the place and the device.
    pub text: String,
}

impl Row {
    fn name(&self) -> String {
        format!("{} ({})", self.place, self.device.device)
    }

    pub fn problem(&self, what: impl fmt::Display) -> Problem {
        Problem {
            place: self.place,
            text: format!("{}: {what}", self.name()),
        }
    }
}

/// The number of rows by outcome.
#[derive(Debug, Default)]
struct Counts {
    registered: usize,
    same: usize,
    different: usize,
    transactions: Vec<Hash>,
}

pub async fn register(session: &Session, arguments: Register) -> Result<ExitCode, Failure> {
    let Register {
        file,
        dry_run,
        skip_existing,
    } = arguments;
    let rows = file::read(&file)?;
    let all = rows.len();
    let comparison = ledger::compare(session, rows, skip_existing).await?;
    if !comparison.problems.is_empty() {
        let mut lines = problems(comparison.problems, all).into_iter();
        let first = lines.next().unwrap_or_default();
        return Err(Failure::refused(first).with_lines(lines));
    }
    let mut counts = Counts {
        same: comparison.same,
        different: comparison.different,
        ..Counts::default()
    };
    if dry_run {
        counts.registered = comparison.new.len();
    } else {
        send(session, &comparison.new, &mut counts).await?;
    }
    print_counts(session, &counts, dry_run);
    Ok(ExitCode::SUCCESS)
}

/// Sends the new devices; after a failure the message says which of them are registered.
async fn send(session: &Session, new: &[Row], counts: &mut Counts) -> Result<(), Failure> {
    for some in batches(new) {
        let devices = some.iter().map(|row| row.device.clone()).collect();
        let action = Action::Devices(DevicesAction::Register { devices });
        let submitted = match session.perform(action).await {
            Ok(submitted) => submitted,
            Err(failure) => return Err(stopped(failure, some, new.len(), counts)),
        };
        counts.registered += some.len();
        counts.transactions.push(submitted.transaction);
        let (done, block) = (counts.registered, submitted.height.unwrap_or_default());
        let of = new.len();
        session
            .output
            .print_text(&format!("registered {done} of {of}, block {block}"));
    }
    Ok(())
}

/// Splits the rows into batches that fit into one transaction each.
fn batches(rows: &[Row]) -> Vec<&[Row]> {
    let (mut batches, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (at, row) in rows.iter().enumerate() {
        let size = codec::encode(&row.device).len();
        let full = at - first >= DEVICES_PER_TRANSACTION
            || (at > first && bytes + size > DEVICE_BYTES_PER_TRANSACTION);
        if full {
            batches.push(&rows[first..at]);
            (first, bytes) = (at, 0);
        }
        bytes += size;
    }
    if first < rows.len() {
        batches.push(&rows[first..]);
    }
    batches
}

fn stopped(failure: Failure, batch: &[Row], of: usize, counts: &Counts) -> Failure {
    let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
        return failure;
    };
    let words = failure.to_string();
    let note = format!(
        "This was the transaction with {} to {}. {} of {of} new devices are registered; of the \
         others none is known to be. Give the same command again to go on: what is registered is \
         left out.",
        first.place, last.place, counts.registered
    );
    match batch.iter().find(|row| names(&words, &row.device)) {
        Some(row) => failure.with_note(format!("It speaks of {}.\n{note}", row.name())),
        None => failure.with_note(note),
    }
}

/// Whether a refusal names this device or its key.
fn names(words: &str, device: &NewDevice) -> bool {
    let key = device.key.map(|key| key.to_string());
    let identifiers = [Some(device.device.to_string()), key];
    let end = |c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c);
    let mut all = words.split(end).map(|word| word.trim_end_matches('.'));
    all.any(|word| identifiers.iter().flatten().any(|name| name == word))
}

/// Several problems, in the order of the rows: a line that counts them, and one for each.
fn problems(mut all: Vec<Problem>, rows: usize) -> Vec<String> {
    all.sort_by_key(|problem| problem.place);
    let mut wrong: Vec<_> = all.iter().map(|problem| problem.place).collect();
    wrong.dedup();
    let shown = all.iter().take(PROBLEMS_SHOWN);
    let shown = shown.map(|problem| format!("  {}", problem.text));
    let more = all.len().saturating_sub(PROBLEMS_SHOWN);
    let more = (more > 0).then(|| format!("  and {more} more"));
    let wrong = wrong.len();
    let first = format!("nothing was registered: {wrong} of {rows} rows can't be");
    [first].into_iter().chain(shown).chain(more).collect()
}

fn print_counts(session: &Session, counts: &Counts, dry_run: bool) {
    let Counts {
        registered,
        same,
        different,
        transactions,
    } = counts;
    if session.output.json {
        return print(
            &json!({ "dry_run": dry_run, "registered": registered, "skipped_same": same,
            "skipped_different": different, "transactions": transactions }),
        );
    }
    let did = if dry_run {
        "nothing was sent; would be registered:"
    } else {
        "registered:"
    };
    let mut words = format!("{did} {registered}; there already with the same content: {same}");
    if *different > 0 {
        words += &format!("; there already with another content, left alone: {different}");
    }
    session.output.print_text(&words);
}
