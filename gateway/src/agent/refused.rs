//! What the ledger refused for ever, for a person to read: one JSON object a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::spool::Outgoing;

/// The file is put aside at this size, and the one put aside before is dropped.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Serialize)]
struct Letter<'a> {
    time_ms: u64,
    code: &'a str,
    message: &'a str,
    report: &'a Outgoing,
}

/// The file of refused reports.
#[derive(Debug)]
pub struct Refused {
    path: PathBuf,
}

impl Refused {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Adds a report and syncs. Waits for the disk.
    pub fn add(
        &self,
        report: &Outgoing,
        (code, message): &(String, String),
        time_ms: u64,
    ) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() >= FILE_BYTES_MAX) {
            fs::rename(&self.path, self.path.with_extension("before.jsonl"))?;
        }
        let letter = Letter {
            time_ms,
            code,
            message,
            report,
        };
        let mut line = serde_json::to_vec(&letter).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        file.write_all(&line)?;
        file.sync_data()
    }
}
