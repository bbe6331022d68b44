//! The dead-letter file: reports that the ledger or this gateway rejected for ever, for a person to
//! read. One JSON object a line.
//!
//! A file that is full is put aside, and a second one begun. When both are full no letter is
//! written: what was rejected stays in the spool or with its Thing, until a person has taken a file
//! away. Nothing is ever dropped to make space.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use lamplighter_system::{RateLimit, files};
use serde::Serialize;

use super::report_check::RejectReason;
use crate::spool::OutgoingReport;
use crate::submission::Rejection;

/// Longest file: some 30,000 letters, more than a person reads.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Letters per minute about messages that this gateway itself rejects; beyond, Things wait. Each
/// letter is synced, and the spool needs the disk.
const LETTERS_PER_MINUTE: f64 = 60.0;
/// Bytes of such letters in a minute, on the average: a Thing that sends nonsense needs more than
/// two days to fill the first file, and it never gets into the second one, which is for what the
/// ledger rejected.
const LETTER_BYTES_PER_MINUTE: f64 = 4.0 * 1024.0;
/// Bytes of such letters at once: some of the longest, which have 16 KiB in hexadecimal digits.
const LETTER_BYTES_BURST: f64 = 256.0 * 1024.0;

/// A report that the ledger rejected.
#[derive(Serialize)]
struct DeadLetter<'a> {
    time_ms: u64,
    code: &'a str,
    message: &'a str,
    report: &'a OutgoingReport,
}

/// A message of a Thing that this gateway rejected.
#[derive(Serialize)]
struct RejectedMessage<'a> {
    time_ms: u64,
    code: &'a str,
    message: &'a str,
    /// The Thing that is registered at the address that the message came from.
    endpoint: &'a str,
    /// The message as it came, hexadecimal.
    bytes: String,
}

/// Why a dead letter was not written.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error("writing the file of refused reports")]
    File(#[from] io::Error),
    #[error("Things handed in more that is refused than is written down in this time")]
    TooMany,
    #[error("{} and the file before it are full: read them and take them away", path.display())]
    Full { path: PathBuf },
}

/// The dead-letter file.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    /// Limits of the letters about messages of Things.
    letters: RateLimit,
    letter_bytes: RateLimit,
    /// The file's name in the directory is durable.
    name_is_durable: bool,
    sync_directory: fn(&Path) -> io::Result<()>,
}

impl DeadLetterFile {
    pub fn new(path: PathBuf, now: Instant) -> Self {
        Self::with_directory_sync(path, now, files::sync_parent)
    }

    /// The file on any disk: `sync` syncs the directory of a file.
    pub fn with_directory_sync(
        path: PathBuf,
        now: Instant,
        sync: fn(&Path) -> io::Result<()>,
    ) -> Self {
        let letters = RateLimit::new(LETTERS_PER_MINUTE / 60.0, LETTERS_PER_MINUTE, now);
        let letter_bytes = RateLimit::new(LETTER_BYTES_PER_MINUTE / 60.0, LETTER_BYTES_BURST, now);
        Self {
            path,
            letters,
            letter_bytes,
            name_is_durable: false,
            sync_directory: sync,
        }
    }

    /// Adds a report that the ledger rejected, and syncs. Blocks on the disk.
    ///
    /// # Errors
    /// The disk failed or both files are full; the report must be kept then.
    pub fn add_report(
        &mut self,
        report: &OutgoingReport,
        Rejection { code, message }: &Rejection,
        time_ms: u64,
    ) -> Result<(), DeadLetterError> {
        let line = json_line(&DeadLetter {
            time_ms,
            code,
            message,
            report,
        })?;
        if !self.has_room(&line)? {
            let before = self.put_aside_path();
            if before.try_exists()? {
                return Err(self.full());
            }
            self.name_is_durable = false;
            fs::rename(&self.path, before)?;
        }
        Ok(self.append(line)?)
    }

    /// Adds a message of a Thing that this gateway rejects, and syncs. Blocks on the disk.
    ///
    /// # Errors
    /// The disk failed, the first file is full, or there were too many lately; the Thing must keep
    /// the message then.
    pub fn add_message(
        &mut self,
        endpoint: &str,
        bytes: &[u8],
        reason: RejectReason,
        time_ms: u64,
        now: Instant,
    ) -> Result<(), DeadLetterError> {
        let line = json_line(&RejectedMessage {
            time_ms,
            code: reason.code(),
            message: &reason.to_string(),
            endpoint,
            bytes: hex::encode(bytes),
        })?;
        let in_debt = !self.letter_bytes.charge(0.0, now).is_zero();
        if in_debt || !self.letters.try_acquire(now) {
            return Err(DeadLetterError::TooMany);
        }
        if self.put_aside_path().try_exists()? || !self.has_room(&line)? {
            return Err(self.full());
        }
        self.letter_bytes.charge(line.len() as f64, now);
        Ok(self.append(line)?)
    }

    fn put_aside_path(&self) -> PathBuf {
        self.path.with_extension("before.jsonl")
    }

    fn full(&self) -> DeadLetterError {
        DeadLetterError::Full {
            path: self.path.clone(),
        }
    }

    /// True if a line fits into the file.
    fn has_room(&self, line: &[u8]) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Ok(file) => Ok(file.len() + line.len() as u64 <= FILE_BYTES_MAX),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .read(true)
            .append(true)
            .open(&self.path)?;
        // A line that a full disk or a power loss tore must not swallow this one.
        if ends_torn(&mut file)? {
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        file.sync_data()?;
        if !self.name_is_durable {
            (self.sync_directory)(&self.path)?;
            self.name_is_durable = true;
        }
        Ok(())
    }
}

fn json_line(letter: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(letter).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

/// True if the last line of the file has no end.
fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}
