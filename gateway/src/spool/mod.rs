//! Reports and events that are not yet on the ledger, on disk: a report that a Thing was told is
//! stored stays here until the ledger has it.
//!
//! The spool is one append-only file of frames (`format`). The records of a frame are written and
//! synced together, and count only then. A crash leaves after each step:
//!
//! | step | after a crash |
//! |---|---|
//! | append | perhaps a torn frame at the end, which is cut off when the file is opened: no Thing was told that it is stored |
//! | sync fails | the frame may be there or not; the file is cut back, and if that fails too the spool accepts nothing more until it succeeds |
//! | sync | the whole frame |
//! | compaction: write the new file | the old file; the new one is removed |
//! | compaction: rename | one of the two, which have the same content |
//! | compaction: sync the directory fails | one of the two; the spool accepts nothing more until it succeeds, because a power loss could bring the old file back |
//!
//! A damaged frame with another one behind it is not a torn end: the spool does not open, because
//! opening it would lose stored reports silently.
//!
//! The spool never drops a report for lack of space: a full spool refuses new reports, and Things
//! keep them.

mod disk;
mod format;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use lamplighter_types::Id;
use lamplighter_types::codec::CodecError;

use format::LogFormat;

pub use disk::{Disk, FileDisk};
pub use state::{
    BATCH_ITEMS_MAX, DeviceShare, InFlightTransaction, OrderingKey, OutgoingReport, RecordConflict,
    ReportIdentity, SpoolRecord, SpoolState, WaitingReport,
};

/// Records of one frame of a compacted file.
const COMPACT_RECORDS: usize = 64;
/// The file is not compacted below this: small files are not worth the writing.
const COMPACT_FROM_BYTES: u64 = 1024 * 1024;
/// Only this part of the spool is filled with reports. A transaction is about as long as its
/// reports, and resolving it adds a little: the rest is for them, so that a full spool can still be
/// emptied.
const RESERVE_FACTOR: u64 = 3;

/// Most reports of one device: as many as a Thing with our agent keeps by itself. More than that
/// come only from a Thing that is broken or means harm.
pub const DEVICE_REPORTS_MAX: usize = 256;
/// One device gets at most this part of the space for reports, so that it fills the spool only
/// together with many others.
const DEVICE_SHARE: u64 = 16;
/// And no more than this, which is 256 reports of usual length several times over.
const DEVICE_BYTES_MAX: u64 = 256 * 1024;
/// A device may always have this much, however small the spool is: one report of the longest kind.
const DEVICE_BYTES_MIN: u64 = 16 * 1024;

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
    #[error(
        "the share of {device} is used up: it would have {} reports with {} bytes in the spool",
        share.reports,
        share.bytes
    )]
    ShareUsed { device: Id, share: DeviceShare },
}

/// The spool. Its methods block on the disk.
pub struct Spool {
    disk: Box<dyn Disk>,
    log: LoadedLog,
    bytes_max: u64,
    /// The log may be another file than the one that was read, with the same content.
    replaced: bool,
}

/// The content of the file.
struct LoadedLog {
    format: LogFormat,
    state: SpoolState,
    /// Length of the head and the whole frames.
    length: u64,
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
        let bytes = disk.read().map_err(disk_error("reading"))?;
        let format = LogFormat::of_file(&bytes)?;
        let log = match format {
            Some(format) => load(format, &bytes)?,
            None => begin(disk.as_mut())?,
        };
        let mut spool = Self {
            disk,
            log,
            bytes_max,
            replaced: false,
        };
        spool.repair()?;
        if spool.log.format == LogFormat::First {
            spool.compact()?;
        }
        Ok(spool)
    }

    pub fn state(&self) -> &SpoolState {
        &self.log.state
    }

    /// Checks that a device may have its reports in the spool and `more` beside them.
    ///
    /// # Errors
    /// Its share is used up.
    pub fn check_share(&self, device: &Id, more: DeviceShare) -> Result<(), SpoolError> {
        let stored = self.state().share_of(device);
        let share = DeviceShare {
            reports: stored.reports + more.reports,
            bytes: stored.bytes + more.bytes,
        };
        let bytes_max =
            (self.report_bytes_max() / DEVICE_SHARE).clamp(DEVICE_BYTES_MIN, DEVICE_BYTES_MAX);
        if share.reports > DEVICE_REPORTS_MAX || share.bytes > bytes_max {
            let device = device.clone();
            return Err(SpoolError::ShareUsed { device, share });
        }
        Ok(())
    }

    /// Checks that new reports of about `bytes` may be added.
    ///
    /// # Errors
    /// The spool is full.
    pub fn check_capacity(&self, bytes: usize) -> Result<(), SpoolError> {
        let (used, limit) = (self.state().bytes(), self.report_bytes_max());
        if used + bytes as u64 > limit {
            return Err(SpoolError::Full { used, limit });
        }
        Ok(())
    }

    /// The bytes that reports of Things may have in the spool.
    fn report_bytes_max(&self) -> u64 {
        self.bytes_max / RESERVE_FACTOR
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
        let format = self.log.format;
        format.write_frame(&mut bytes, self.log.length, &records)?;
        self.log.torn = true;
        let written = self.disk.append(&bytes).map_err(disk_error("writing"));
        let synced = written.and_then(|()| self.disk.sync().map_err(disk_error("syncing")));
        let applied = synced.and_then(|()| {
            records
                .into_iter()
                .try_for_each(|record| Ok(self.log.state.apply(record)?))
        });
        match applied {
            Ok(()) => {
                self.log.torn = false;
                self.log.length += bytes.len() as u64;
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
        let bytes = self.disk.read().map_err(disk_error("reading"))?;
        let format = LogFormat::of_file(&bytes)?.ok_or(SpoolError::Damaged { at: 0 })?;
        self.log = load(format, &bytes)?;
        self.replaced = false;
        self.repair()
    }

    /// Makes the log the one that a restart finds, and cuts off what lies behind the whole frames.
    fn repair(&mut self) -> Result<(), SpoolError> {
        self.disk.confirm().map_err(disk_error("confirming"))?;
        if self.replaced {
            return self.reload();
        }
        if self.log.torn {
            self.disk
                .truncate(self.log.length)
                .map_err(disk_error("cutting"))?;
            self.disk.sync().map_err(disk_error("syncing"))?;
            self.log.torn = false;
        }
        Ok(())
    }

    /// Rewrites the file once most of its records are of no use any more. A failure leaves the old
    /// file.
    fn compact_if_due(&mut self) {
        let length = self.log.length;
        if length < COMPACT_FROM_BYTES || length / 2 < self.state().bytes() {
            return;
        }
        if let Err(error) = self.compact() {
            tracing::warn!(%error, "the spool was not compacted");
        }
    }

    pub(crate) fn compact(&mut self) -> Result<(), SpoolError> {
        let format = LogFormat::new_file();
        let mut bytes = format.head();
        for records in self.state().records().chunks(COMPACT_RECORDS) {
            let at = bytes.len() as u64;
            format.write_frame(&mut bytes, at, records)?;
        }
        self.disk
            .write_replacement(&bytes)
            .map_err(disk_error("compacting"))?;
        // After a failure the log is either of the two files, which have the same content.
        self.replaced = true;
        self.disk
            .install_replacement()
            .map_err(disk_error("replacing"))?;
        self.replaced = false;
        (self.log.format, self.log.length) = (format, bytes.len() as u64);
        Ok(())
    }
}

/// Begins a new file. Its head is durable before the first frame.
fn begin(disk: &mut dyn Disk) -> Result<LoadedLog, SpoolError> {
    let format = LogFormat::new_file();
    let head = format.head();
    disk.truncate(0).map_err(disk_error("cutting"))?;
    disk.append(&head).map_err(disk_error("writing"))?;
    disk.sync().map_err(disk_error("syncing"))?;
    Ok(LoadedLog {
        format,
        state: SpoolState::default(),
        length: head.len() as u64,
        torn: false,
    })
}

fn load(format: LogFormat, bytes: &[u8]) -> Result<LoadedLog, SpoolError> {
    let mut state = SpoolState::default();
    let mut at = format.begin();
    while let Some((records, next)) = format.read_frame(bytes, at)? {
        for record in records {
            state.apply(record)?;
        }
        at = next;
    }
    Ok(LoadedLog {
        format,
        state,
        length: at as u64,
        torn: at < bytes.len(),
    })
}

fn disk_error(operation: &'static str) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Disk { operation, source }
}
