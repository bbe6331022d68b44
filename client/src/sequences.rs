//! Sequence numbers of a key: each is used once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lamplighter_system::files;
use rand::Rng;

use crate::error::ClientError;

/// Numbers that one write to the file reserves, so that not every transaction waits for the disk.
/// After a crash the rest of them is skipped, which the ledger's window allows.
const RESERVED: u64 = 64;

/// A client without a file starts at most this far above the ledger's highest number. Commands of
/// one account that run at once, or while nothing is committed, all learn of the same highest
/// number and must not all use the next one. A quarter of the ledger's window of 1,024: what was
/// signed a few commands ago still fits into it.
pub const SPREAD: u64 = 256;

/// Assigns sequence numbers, each above all earlier ones.
#[derive(Debug)]
pub struct Sequences {
    state: Mutex<SequenceState>,
}

#[derive(Debug)]
struct SequenceState {
    /// The last number assigned; `None` until it is known.
    last: Option<u64>,
    /// Numbers up to this one are recorded as used in the file.
    reserved: u64,
    file: Option<PathBuf>,
}

impl Sequences {
    /// Starts somewhere above the highest number of the key that the ledger knows.
    pub fn from_ledger() -> Self {
        Self {
            state: Mutex::new(SequenceState {
                last: None,
                reserved: u64::MAX,
                file: None,
            }),
        }
    }

    /// Keeps the numbers in a file, so that no number is assigned twice even while transactions of
    /// an earlier run are still pending. A new file starts after the highest number that the ledger
    /// knows.
    ///
    /// # Errors
    /// The file can't be read or does not hold a number.
    pub fn in_file(path: &Path) -> Result<Self, ClientError> {
        let last = match fs::read_to_string(path) {
            Ok(text) => {
                let malformed = |_| ClientError::Sequence {
                    path: path.to_owned(),
                };
                Some(text.trim().parse().map_err(malformed)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(ClientError::file("reading", path)(source)),
        };
        let (reserved, file) = (last.unwrap_or(0), Some(path.to_owned()));
        Ok(Self {
            state: Mutex::new(SequenceState {
                last,
                reserved,
                file,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, SequenceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True until the highest number is known from the ledger or the file.
    pub(crate) fn is_unknown(&self) -> bool {
        self.lock().last.is_none()
    }

    /// Continues after the highest number that the ledger knows. Other clients may be about to use
    /// the next ones, unless a file shows that this client alone has the key.
    pub(crate) fn start_after(&self, highest: u64) {
        let is_exclusive = self.lock().file.is_some();
        let skipped = if is_exclusive {
            0
        } else {
            rand::rng().random_range(0..SPREAD)
        };
        self.raise_to(highest.saturating_add(skipped));
    }

    /// Numbers up to `highest` are not assigned any more.
    pub fn raise_to(&self, highest: u64) {
        let mut state = self.lock();
        state.last = Some(state.last.map_or(highest, |last| last.max(highest)));
    }

    /// The next number.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn next(&self) -> Result<u64, ClientError> {
        let mut state = self.lock();
        let next = state.last.unwrap_or(0) + 1;
        if let Some(path) = state.file.as_ref().filter(|_| next > state.reserved) {
            let reserved = next + RESERVED;
            files::replace(path, format!("{reserved}\n").as_bytes())
                .map_err(ClientError::file("writing", path))?;
            state.reserved = reserved;
        }
        state.last = Some(next);
        Ok(next)
    }
}
