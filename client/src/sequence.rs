//! Sequence numbers of a key: each is used once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::Rng;

use crate::error::ClientError;

/// Numbers that one write to the file allows, so that not every transaction waits for the disk.
/// After a crash the rest of them is skipped, which the ledger's window allows.
const RESERVED: u64 = 64;

/// How far above the ledger's highest number a client without a file begins, at most. Commands of
/// one account that run at once, or while nothing is committed, all learn of the same highest
/// number and must not all take the next one. A quarter of the ledger's window of 1,024: what was
/// signed a few commands ago still fits into it.
pub const SPREAD: u64 = 256;

/// Gives out sequence numbers, above all earlier ones.
#[derive(Debug)]
pub struct Sequences {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last number given out; `None` until it is known.
    last: Option<u64>,
    /// Up to here numbers are noted as used in the file.
    reserved: u64,
    file: Option<PathBuf>,
}

impl Sequences {
    /// Begins somewhere after the highest number that the ledger knows of the key.
    pub fn asked() -> Self {
        Self {
            state: Mutex::new(State {
                last: None,
                reserved: u64::MAX,
                file: None,
            }),
        }
    }

    /// Keeps the numbers in a file, so that no number is given twice even when transactions of an
    /// earlier run are still on their way. A new file begins after what the ledger knows.
    ///
    /// # Errors
    /// The file can't be read or does not hold a number.
    pub fn in_file(path: &Path) -> Result<Self, ClientError> {
        let last = match fs::read_to_string(path) {
            Ok(text) => {
                let wrong = |_| ClientError::Sequence {
                    path: path.to_owned(),
                };
                Some(text.trim().parse().map_err(wrong)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(ClientError::File {
                    doing: "reading",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let (reserved, file) = (last.unwrap_or(0), Some(path.to_owned()));
        Ok(Self {
            state: Mutex::new(State {
                last,
                reserved,
                file,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the ledger has to be asked first.
    pub(crate) fn is_unknown(&self) -> bool {
        self.lock().last.is_none()
    }

    /// Goes on after the highest number that the ledger knows. Others may be about to use the next
    /// ones, unless a file says that this client alone has the key.
    pub(crate) fn begin_after(&self, highest: u64) {
        let is_alone = self.lock().file.is_some();
        let skipped = match is_alone {
            true => 0,
            false => rand::rng().random_range(0..SPREAD),
        };
        self.at_least(highest.saturating_add(skipped));
    }

    /// The ledger has seen this number.
    pub fn at_least(&self, highest: u64) {
        let mut state = self.lock();
        state.last = Some(state.last.map_or(highest, |last| last.max(highest)));
    }

    /// A number that was not given out before.
    pub fn take(&self) -> Result<u64, ClientError> {
        let mut state = self.lock();
        let next = state.last.unwrap_or(0) + 1;
        if let Some(path) = state.file.clone().filter(|_| next > state.reserved) {
            let reserved = next + RESERVED;
            replace(&path, &format!("{reserved}\n")).map_err(|source| ClientError::File {
                doing: "writing",
                path,
                source,
            })?;
            state.reserved = reserved;
        }
        state.last = Some(next);
        Ok(next)
    }
}

/// Writes beside the file, syncs, renames, syncs the directory: the file is always whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
