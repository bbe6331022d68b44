//! The newest certified head that this gateway has seen, kept on its disk: after a restart nothing
//! older is recent, and a clock that is behind it is wrong.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_system::{error_chain, files};
use lamplighter_types::codec::{self, CodecError};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::verify::AHEAD_MAX;

/// The file is written at most this often. A power loss takes back as much at most, which is less
/// than the age at which records are still believed.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// A clock that is behind is complained about this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NewestHeadError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} does not hold a head; without the file older states would be believed",
        path.display()
    )]
    Malformed { path: PathBuf, source: CodecError },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    height: u64,
    time_ms: u64,
}

/// The newest head, in memory and in its file.
#[derive(Debug)]
pub(super) struct NewestHead {
    path: PathBuf,
    head: Head,
    is_saved: bool,
    saved_at: Option<Instant>,
    complained_at: Option<Instant>,
}

impl NewestHead {
    /// Reads the file; before the first head the time of the genesis file is the newest.
    pub fn open(path: PathBuf, genesis_ms: u64) -> Result<Self, NewestHeadError> {
        let head = match fs::read(&path) {
            Ok(bytes) => {
                codec::decode_json(&bytes).map_err(|source| NewestHeadError::Malformed {
                    path: path.clone(),
                    source,
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Head {
                height: 0,
                time_ms: genesis_ms,
            },
            Err(source) => return Err(NewestHeadError::Read { path, source }),
        };
        Ok(Self {
            path,
            head,
            is_saved: true,
            saved_at: None,
            complained_at: None,
        })
    }

    /// Height of the newest head.
    pub fn height(&self) -> u64 {
        self.head.height
    }

    /// Takes up a certified head, unless it is far ahead of the clock: if its time is wrong, it
    /// would make all that follow look old.
    pub fn observe(&mut self, height: u64, time_ms: u64, now_ms: u64) {
        let is_ahead = is_ahead(time_ms, now_ms);
        if is_ahead || height <= self.head.height {
            return;
        }
        let time_ms = time_ms.max(self.head.time_ms);
        (self.head, self.is_saved) = (Head { height, time_ms }, false);
    }

    /// The time by which the age of records is measured: a clock that goes backwards makes no old
    /// record recent again.
    pub fn time_ms(&self, now_ms: u64) -> u64 {
        now_ms.max(self.head.time_ms)
    }

    /// True if the clock can be right: it is not before the newest head. Says so if not.
    pub fn is_clock_set(&mut self, now_ms: u64, now: Instant) -> bool {
        let is_set = !is_ahead(self.head.time_ms, now_ms);
        let is_due = |at: Instant| now.duration_since(at) >= COMPLAIN_EVERY;
        if !is_set && self.complained_at.is_none_or(is_due) {
            self.complained_at = Some(now);
            let behind = Duration::from_millis(self.head.time_ms.saturating_sub(now_ms));
            tracing::error!(
                ?behind,
                "this machine's clock is not set: it is behind the ledger's newest block; the \
                 gateway waits, gives no orders, signs nothing, and stores what Things report"
            );
        }
        is_set
    }

    /// Writes the file if the head has changed and it was not written just now. Blocks on the disk.
    pub fn save_if_due(&mut self, now: Instant) {
        let is_due = |at: Instant| now.duration_since(at) >= SAVE_EVERY;
        if self.saved_at.is_none_or(is_due) {
            self.save(now);
        }
    }

    /// Writes the file if the head has changed. Blocks on the disk. If that fails it is tried again
    /// after a pause.
    pub fn save(&mut self, now: Instant) {
        if self.is_saved {
            return;
        }
        self.saved_at = Some(now);
        let bytes = serde_json::to_vec(&self.head).expect("numbers are JSON");
        match files::replace(&self.path, &bytes) {
            Ok(()) => self.is_saved = true,
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(error, "the newest head can't be kept");
            }
        }
    }
}

fn is_ahead(time_ms: u64, now_ms: u64) -> bool {
    Duration::from_millis(time_ms.saturating_sub(now_ms)) > AHEAD_MAX
}
