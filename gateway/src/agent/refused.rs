//! What was refused for ever, by the ledger or by this gateway, for a person to read: one JSON
//! object a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::devices::sync_parent;
use super::intake::Unfit;
use crate::spool::Outgoing;

/// The file is put aside at this size, and the one put aside before is dropped.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What Things hand in and this gateway refuses is written down so often in a minute; then they
/// wait. Each letter is synced, and the disk is there for the spool.
const LETTERS_PER_MINUTE_MAX: u32 = 60;
const MINUTE_MS: u64 = 60_000;
/// Bytes of such letters in a minute, on the average: a Thing that sends nonsense needs more than
/// two days to fill one file, and as long again to push out what the ledger refused.
const LETTER_BYTES_PER_MINUTE: u64 = 4 * 1024;
/// Bytes of such letters at once: some of the longest, which have 16 KiB in hexadecimal digits.
const LETTER_BYTES_MAX: u64 = 256 * 1024;

#[derive(Serialize)]
struct Letter<'a> {
    time_ms: u64,
    code: &'a str,
    message: &'a str,
    report: &'a Outgoing,
}

/// A report that was not even taken.
#[derive(Serialize)]
struct Unread<'a> {
    time_ms: u64,
    code: &'a str,
    message: &'a str,
    /// Who registered from the address that it came from.
    endpoint: &'a str,
    /// As it came, hexadecimal.
    bytes: String,
}

/// Why a refused report was not written down.
#[derive(Debug, thiserror::Error)]
pub enum RefusedError {
    #[error("writing the file of refused reports")]
    File(#[from] io::Error),
    #[error("Things handed in more that is refused than is written down in this time")]
    TooMany,
}

/// The file of refused reports.
#[derive(Debug)]
pub struct Refused {
    path: PathBuf,
    /// When the minute began, and how many letters of Things were written in it.
    minute: (u64, u32),
    /// Bytes that letters of Things may take, as of this time.
    allowance: (u64, u64),
    /// The directory has the file of this name for good.
    placed: bool,
    sync_directory: fn(&Path) -> io::Result<()>,
}

impl Refused {
    pub fn new(path: PathBuf) -> Self {
        Self::with_directory_sync(path, sync_parent)
    }

    /// As [`new`](Self::new), on any disk: given is what syncs the directory of a file.
    pub fn with_directory_sync(path: PathBuf, sync: fn(&Path) -> io::Result<()>) -> Self {
        Self {
            path,
            minute: (0, 0),
            allowance: (LETTER_BYTES_MAX, 0),
            placed: false,
            sync_directory: sync,
        }
    }

    /// Adds a report that the ledger refused and syncs. Waits for the disk.
    ///
    /// # Errors
    /// The disk failed; the report must be kept then.
    pub fn add(
        &mut self,
        report: &Outgoing,
        (code, message): &(String, String),
        time_ms: u64,
    ) -> io::Result<()> {
        self.append(line_of(&Letter {
            time_ms,
            code,
            message,
            report,
        })?)
    }

    /// Adds what a Thing handed in and this gateway refuses, and syncs. Waits for the disk.
    ///
    /// # Errors
    /// The disk failed, or there was too much lately; the Thing must keep it then.
    pub fn add_unread(
        &mut self,
        endpoint: &str,
        bytes: &[u8],
        unfit: Unfit,
        time_ms: u64,
    ) -> Result<(), RefusedError> {
        let line = line_of(&Unread {
            time_ms,
            code: unfit.code(),
            message: &unfit.to_string(),
            endpoint,
            bytes: hex::encode(bytes),
        })?;
        self.allow(line.len() as u64, time_ms)?;
        Ok(self.append(line)?)
    }

    /// Counts a letter of a Thing.
    fn allow(&mut self, bytes: u64, time_ms: u64) -> Result<(), RefusedError> {
        let (began_ms, count) = &mut self.minute;
        if time_ms.abs_diff(*began_ms) >= MINUTE_MS {
            (*began_ms, *count) = (time_ms, 0);
        }
        let (left, as_of_ms) = &mut self.allowance;
        let passed_ms = time_ms
            .abs_diff(*as_of_ms)
            .min(LETTER_BYTES_MAX * MINUTE_MS);
        let earned = passed_ms * LETTER_BYTES_PER_MINUTE / MINUTE_MS;
        // Time that is worth no whole byte yet counts the next time.
        if earned > 0 {
            (*left, *as_of_ms) = ((*left + earned).min(LETTER_BYTES_MAX), time_ms);
        }
        if *count >= LETTERS_PER_MINUTE_MAX || bytes > *left {
            return Err(RefusedError::TooMany);
        }
        *count += 1;
        *left -= bytes;
        Ok(())
    }

    fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() >= FILE_BYTES_MAX) {
            self.placed = false;
            fs::rename(&self.path, self.path.with_extension("before.jsonl"))?;
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .read(true)
            .append(true)
            .open(&self.path)?;
        // A line that was torn, by a full disk or the power, must not swallow this one.
        if ends_torn(&mut file)? {
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        file.sync_data()?;
        if !self.placed {
            (self.sync_directory)(&self.path)?;
            self.placed = true;
        }
        Ok(())
    }
}

fn line_of(letter: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(letter).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

/// Whether the last line of the file has no end.
fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}
