//! The sender's numbers over restarts (RFC 8613, appendix B.1.1). A number and a key make a nonce,
//! which must never be used twice. All contexts count below one ceiling, which is on disk before
//! the first number below it is used; after a restart they all begin at the ceiling that was left.
//! So a crash between any two lines costs numbers, and never uses one twice.

use std::io;
use std::path::{Path, PathBuf};

use lamplighter_system::files;
use serde::{Deserialize, Serialize};

/// Numbers between two ceilings: one write for more messages than the largest image has blocks of
/// 64 bytes, and 67 million restarts.
pub(super) const STEP: u64 = 1 << 14;
/// 2026-01-01 in seconds.
const EPOCH_S: u64 = 1_767_225_600;
/// A file that is lost is replaced by the clock: this many numbers for each hour since 2026. No
/// context sends more than a step in an hour for months.
const HOUR_S: u64 = 3_600;

/// Why the numbers can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum NumbersError {
    #[error("reading the sender numbers of OSCORE in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the sender numbers of OSCORE in {} are malformed; if the file is lost, delete it, and \
         replace the keys if the clock was ever wrong",
        path.display()
    )]
    Malformed {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("writing the sender numbers of OSCORE in {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumbersFile {
    /// No number from here on was ever used.
    ceiling: u64,
}

/// The file with the ceiling.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    path: PathBuf,
}

impl Numbers {
    /// Reads the ceiling that was left; contexts begin there.
    pub(super) fn open(path: &Path, unix_s: u64) -> Result<(Numbers, u64), NumbersError> {
        let ceiling = match std::fs::read(path) {
            Ok(bytes) => {
                let file: NumbersFile =
                    serde_json::from_slice(&bytes).map_err(|source| NumbersError::Malformed {
                        path: path.to_owned(),
                        source,
                    })?;
                file.ceiling
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                unix_s.saturating_sub(EPOCH_S) / HOUR_S * STEP
            }
            Err(source) => {
                let path = path.to_owned();
                return Err(NumbersError::Read { path, source });
            }
        };
        let path = path.to_owned();
        Ok((Numbers { path }, ceiling))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the ceiling durable, then it may be used.
    pub(super) fn write(&self, ceiling: u64) -> Result<(), NumbersError> {
        let failed = |source| NumbersError::Write {
            path: self.path.clone(),
            source,
        };
        let file = serde_json::to_vec(&NumbersFile { ceiling }).map_err(io::Error::from);
        files::replace(&self.path, &file.map_err(failed)?).map_err(failed)
    }
}
