//! The sender's numbers over restarts (RFC 8613, appendix B.1.1). A number and a key make a nonce,
//! which must never be used twice. All contexts count below one ceiling, which is on disk before
//! the first number below it is used; after a restart they all begin at the ceiling that was left.
//! So a crash between any two lines costs numbers, and never uses one twice.
//!
//! The file may be lost, or be an old copy of itself. So the clock has a say too: a start is never
//! below the number of the present time, which is ahead of all that was used before. The file, in
//! turn, makes up for a clock that was set back. Only if both are wrong the keys must be replaced.

use std::io;
use std::path::{Path, PathBuf};

use lamplighter_system::files;
use serde::{Deserialize, Serialize};

use super::option::PartialIv;

/// Numbers between two ceilings: one write for 4,096 messages of the busiest Thing. A restart costs
/// as many, 16 s of the clock's numbers, so that a gateway that restarts less often stays behind
/// the clock.
pub(super) const STEP: u64 = 1 << 12;
/// 2026-01-01 in milliseconds.
const EPOCH_MS: u64 = 1_767_225_600_000;
/// The clock gives one number in this time: 250 a second, more than a mesh carries to one Thing,
/// for 139 years.
const NUMBER_MS: u64 = 4;

/// Why the numbers can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum NumbersError {
    #[error("reading the sender numbers of OSCORE in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the sender numbers of OSCORE in {} are malformed; delete the file if the clock is right \
         and was never ahead, else replace the OSCORE keys first",
        path.display()
    )]
    Malformed {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(
        "the sender numbers of OSCORE end before {start}, where {} and the clock begin; set the \
         clock if it is wrong, else replace the OSCORE keys and delete the file",
        path.display()
    )]
    Exhausted { path: PathBuf, start: u64 },
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
    /// Reads the ceiling that was left. Contexts begin there, or where the clock is if that is
    /// higher.
    pub(super) fn open(path: &Path, unix_ms: u64) -> Result<(Numbers, u64), NumbersError> {
        let path = path.to_owned();
        let left = match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<NumbersFile>(&bytes) {
                Ok(file) => file.ceiling,
                Err(source) => return Err(NumbersError::Malformed { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(NumbersError::Read { path, source }),
        };
        let start = left.max(unix_ms.saturating_sub(EPOCH_MS) / NUMBER_MS);
        // Nothing is written: with the right clock the next start may be lower.
        if start >= PartialIv::COUNT {
            return Err(NumbersError::Exhausted { path, start });
        }
        Ok((Numbers { path }, start))
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
