//! Bytes of the store that are not what was written, and whose they are.

use std::fmt;
use std::path::{Path, PathBuf};

use lamplighter_store::{Cf, StoreError};

use crate::seal::digests::Mismatch;

/// Where a store is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// Where the damage is, or where the piece begins in which it is.
    pub offset: u64,
    pub what: String,
    /// The column family of the bytes; none for files of the store as a whole: log, manifest.
    pub family: Option<Cf>,
}

impl Damage {
    pub(crate) fn new(path: &Path, offset: u64, what: &str) -> Self {
        Self {
            path: path.to_owned(),
            offset,
            what: what.to_owned(),
            family: None,
        }
    }

    pub(crate) fn bytes(path: &Path, mismatch: Mismatch, family: Option<Cf>) -> Self {
        let Mismatch { offset, length } = mismatch;
        let what =
            format!("in the {length} bytes from {offset} on something is not what was written");
        Self {
            family,
            ..Self::new(path, offset, &what)
        }
    }

    /// Whether other nodes have the damaged data too. If not, promises of this node are lost with
    /// it: its vote, its log, its signatures.
    pub fn is_shared(&self) -> bool {
        self.family.is_some_and(Cf::is_shared)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged at offset {}",
            self.path.display(),
            self.offset
        )?;
        if let Some(family) = self.family {
            write!(f, " (column family {})", family.name())?;
        }
        write!(f, ": {}", self.what)
    }
}

impl From<Damage> for StoreError {
    fn from(damage: Damage) -> Self {
        let mut what = format!("offset {}: {}", damage.offset, damage.what);
        if let Some(family) = damage.family {
            what = format!("{what} (column family {})", family.name());
        }
        StoreError::Corrupt {
            path: damage.path,
            what,
            source: None,
        }
    }
}
