//! What was refused for ever, by the ledger or by this gateway, for a person to read: one JSON
//! object a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::intake::Unfit;
use crate::spool::Outgoing;

/// The file is put aside at this size, and the one put aside before is dropped.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What Things hand in and this gateway refuses is written down so often in a minute; then they
/// wait. A Thing that sends nonsense does not push out what the ledger refused.
const LETTERS_PER_MINUTE_MAX: u32 = 60;
const MINUTE_MS: u64 = 60_000;

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
    #[error("more than {LETTERS_PER_MINUTE_MAX} reports were refused within a minute")]
    TooMany,
}

/// The file of refused reports.
#[derive(Debug)]
pub struct Refused {
    path: PathBuf,
    /// When the minute began, and how many letters of Things were written in it.
    minute: (u64, u32),
}

impl Refused {
    pub fn new(path: PathBuf) -> Self {
        let minute = (0, 0);
        Self { path, minute }
    }

    /// Adds a report that the ledger refused and syncs. Waits for the disk.
    pub fn add(
        &self,
        report: &Outgoing,
        (code, message): &(String, String),
        time_ms: u64,
    ) -> io::Result<()> {
        self.append(&Letter {
            time_ms,
            code,
            message,
            report,
        })
    }

    /// Adds what a Thing handed in and this gateway refuses, and syncs. Waits for the disk.
    ///
    /// # Errors
    /// The disk failed, or there were too many within a minute; the Thing must keep it then.
    pub fn add_unread(
        &mut self,
        endpoint: &str,
        bytes: &[u8],
        unfit: Unfit,
        time_ms: u64,
    ) -> Result<(), RefusedError> {
        let (began_ms, count) = &mut self.minute;
        if time_ms.abs_diff(*began_ms) >= MINUTE_MS {
            (*began_ms, *count) = (time_ms, 0);
        }
        if *count >= LETTERS_PER_MINUTE_MAX {
            return Err(RefusedError::TooMany);
        }
        *count += 1;
        self.append(&Unread {
            time_ms,
            code: unfit.code(),
            message: &unfit.to_string(),
            endpoint,
            bytes: hex::encode(bytes),
        })?;
        Ok(())
    }

    fn append(&self, letter: &impl Serialize) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() >= FILE_BYTES_MAX) {
            fs::rename(&self.path, self.path.with_extension("before.jsonl"))?;
        }
        let mut line = serde_json::to_vec(letter).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        file.write_all(&line)?;
        file.sync_data()
    }
}
