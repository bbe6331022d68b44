//! Reports and events that are not yet on the ledger, on disk: a report that a Thing was told is
//! stored stays here until the ledger has it.
//!
//! The spool is one append-only file of frames `length (u32) | checksum (8 bytes of blake3) |
//! records`, all little-endian. The records of a frame are written and synced together, and count
//! only then. A crash leaves after each step:
//!
//! | step | after a crash |
//! |---|---|
//! | append | perhaps a torn frame at the end, which is cut off when the file is opened: no Thing was told that it is stored |
//! | sync fails | the frame may be there or not; the file is cut back, and if that fails too the spool accepts nothing more until it succeeds |
//! | sync | the whole frame |
//! | compaction: write the new file | the old file; the new one is removed |
//! | compaction: rename, sync the directory | one of the two, which have the same content |
//!
//! A damaged frame with whole ones behind it is not a torn end: the spool does not open, because
//! opening it would lose stored reports silently.
//!
//! The spool never drops a report for lack of space: a full spool refuses new reports, and Things
//! keep them.

mod disk;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use lamplighter_types::codec::{self, CodecError};

pub use disk::{Disk, FileDisk};
pub use state::{
    BATCH_ITEMS_MAX, InFlightTransaction, OrderingKey, OutgoingReport, RecordConflict,
    ReportIdentity, SpoolRecord, SpoolState, WaitingReport,
};

/// Length and checksum before the records of a frame.
const FRAME_HEAD: usize = 12;
/// Longest frame: what a few hundred Things send at once, and far below what the codec reads.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Records of one frame of a compacted file.
const COMPACT_RECORDS: usize = 64;
/// The file is not compacted below this: small files are not worth the writing.
const COMPACT_FROM_BYTES: u64 = 1024 * 1024;
/// Only this part of the spool is filled with reports. A transaction is about as long as its
/// reports, and resolving it adds a little: the rest is for them, so that a full spool can still be
/// emptied.
const RESERVE_FACTOR: u64 = 3;

/// Why the spool does not open, or did not store records.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("opening the spool {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{operation} the spool")]
    Disk {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the spool is damaged at byte {at}, with whole records behind it")]
    Damaged { at: u64 },
    #[error("{got} bytes are more than the spool takes at once")]
    FrameTooLarge { got: usize },
    #[error("a record of the spool does not decode")]
    Record(#[source] CodecError),
    #[error("the records of the spool contradict each other")]
    Conflict(#[from] RecordConflict),
    #[error("the spool is full: {used} of {limit} bytes wait for the ledger")]
    Full { used: u64, limit: u64 },
}

/// The spool. Its methods block on the disk.
pub struct Spool {
    disk: Box<dyn Disk>,
    state: SpoolState,
    /// Length of the whole frames.
    length: u64,
    bytes_max: u64,
    /// The file may be longer than `length`.
    torn: bool,
}

impl Spool {
    /// Opens the spool of a directory.
    ///
    /// # Errors
    /// The directory is in use or can't be written; the file is damaged.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, SpoolError> {
        let disk = FileDisk::open(dir).map_err(|source| SpoolError::Open {
            path: dir.to_owned(),
            source,
        })?;
        Self::with_disk(Box::new(disk), bytes_max)
    }

    /// Opens the spool on any disk, as [`open`](Self::open) does in a directory.
    pub fn with_disk(mut disk: Box<dyn Disk>, bytes_max: u64) -> Result<Self, SpoolError> {
        let (state, length, torn) = load(disk.as_mut())?;
        let mut spool = Self {
            disk,
            state,
            length,
            bytes_max,
            torn,
        };
        spool.repair()?;
        Ok(spool)
    }

    pub fn state(&self) -> &SpoolState {
        &self.state
    }

    /// Checks that a new report of about `bytes` may be added.
    ///
    /// # Errors
    /// The spool is full.
    pub fn check_capacity(&self, bytes: usize) -> Result<(), SpoolError> {
        let (used, limit) = (self.state.bytes(), self.bytes_max / RESERVE_FACTOR);
        if used + bytes as u64 > limit {
            return Err(SpoolError::Full { used, limit });
        }
        Ok(())
    }

    /// Makes records durable and applies them: all of them or, with an error, none.
    ///
    /// # Errors
    /// The disk failed, or a record conflicts with those before.
    pub fn commit(&mut self, records: Vec<SpoolRecord>) -> Result<(), SpoolError> {
        if records.is_empty() {
            return Ok(());
        }
        self.repair()?;
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &records)?;
        self.torn = true;
        let written = self.disk.append(&bytes).map_err(disk_error("writing"));
        let synced = written.and_then(|()| self.disk.sync().map_err(disk_error("syncing")));
        let applied = synced.and_then(|()| {
            records
                .into_iter()
                .try_for_each(|record| Ok(self.state.apply(record)?))
        });
        match applied {
            Ok(()) => {
                self.torn = false;
                self.length += bytes.len() as u64;
                self.compact_if_due();
                Ok(())
            }
            Err(error) => {
                // Should this fail too, the next commit tries again before it writes.
                if let Err(worse) = self.repair() {
                    tracing::error!(error = %worse, "the spool could not be cut back");
                }
                if matches!(error, SpoolError::Conflict(_)) {
                    self.reload()?;
                }
                Err(error)
            }
        }
    }

    /// Reads the state from the disk again.
    fn reload(&mut self) -> Result<(), SpoolError> {
        (self.state, self.length, self.torn) = load(self.disk.as_mut())?;
        self.repair()
    }

    /// Cuts off what lies behind the whole frames.
    fn repair(&mut self) -> Result<(), SpoolError> {
        if self.torn {
            self.disk
                .truncate(self.length)
                .map_err(disk_error("cutting"))?;
            self.disk.sync().map_err(disk_error("syncing"))?;
            self.torn = false;
        }
        Ok(())
    }

    /// Rewrites the file once most of its records are of no use any more. A failure leaves the old
    /// file.
    fn compact_if_due(&mut self) {
        if self.length < COMPACT_FROM_BYTES || self.length / 2 < self.state.bytes() {
            return;
        }
        if let Err(error) = self.compact() {
            tracing::warn!(%error, "the spool was not compacted");
        }
    }

    pub(crate) fn compact(&mut self) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        for records in self.state.records().chunks(COMPACT_RECORDS) {
            write_frame(&mut bytes, records)?;
        }
        self.disk
            .write_replacement(&bytes)
            .map_err(disk_error("compacting"))?;
        let installed = self
            .disk
            .install_replacement()
            .map_err(disk_error("replacing"));
        // After a failure it may be either of the two files: both have the same content.
        if installed.is_err() {
            self.reload()?;
            return installed;
        }
        self.length = bytes.len() as u64;
        Ok(())
    }
}

/// SpoolState, length of what counts, and whether there is more behind.
fn load(disk: &mut dyn Disk) -> Result<(SpoolState, u64, bool), SpoolError> {
    let bytes = disk.read().map_err(disk_error("reading"))?;
    let mut state = SpoolState::default();
    let mut at = 0;
    while let Some((records, next)) = read_frame(&bytes, at)? {
        for record in records {
            state.apply(record)?;
        }
        at = next;
    }
    Ok((state, at as u64, at < bytes.len()))
}

fn disk_error(operation: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Disk { operation, source }
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    checksum
}

fn write_frame(into: &mut Vec<u8>, records: &[SpoolRecord]) -> Result<(), SpoolError> {
    let body = codec::encode(&records);
    if body.len() > FRAME_BYTES_MAX {
        return Err(SpoolError::FrameTooLarge { got: body.len() });
    }
    into.extend((body.len() as u32).to_le_bytes());
    into.extend(checksum(&body));
    into.extend(body);
    Ok(())
}

/// Reads the frame at `at`: its records and its end. `None`: there is no whole frame any more.
fn read_frame(bytes: &[u8], at: usize) -> Result<Option<(Vec<SpoolRecord>, usize)>, SpoolError> {
    let rest = &bytes[at..];
    let Some(body) = frame_body(rest) else {
        // Only the last frame can be torn: a whole one behind the damage means that it is no torn
        // end.
        let whole_behind = (1..rest.len()).any(|skip| frame_body(&rest[skip..]).is_some());
        if whole_behind {
            return Err(SpoolError::Damaged { at: at as u64 });
        }
        return Ok(None);
    };
    let records = codec::decode_stored(body).map_err(SpoolError::Record)?;
    Ok(Some((records, at + FRAME_HEAD + body.len())))
}

/// The body of the frame at the beginning of `bytes`, if it is whole.
fn frame_body(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (expected, rest) = rest.split_first_chunk::<8>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > FRAME_BYTES_MAX {
        return None;
    }
    let body = rest.get(..length)?;
    (checksum(body) == *expected).then_some(body)
}
