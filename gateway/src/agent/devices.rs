//! The devices of this gateway, as last proven. On disk, so that Things are served while no node is
//! in reach.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::{Device, Id};
use serde::{Deserialize, Serialize};

/// More than a mesh can carry; a node can't make us keep more.
pub const DEVICES_MAX: usize = 10_000;

/// Why the devices could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} does not hold devices", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: CodecError,
    },
    #[error("a gateway has at most {DEVICES_MAX} devices")]
    TooMany,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// None: it was ours and is not any more.
    device: Option<Device>,
    /// Height of the proven state.
    height: u64,
}

/// The table. Clones share it.
#[derive(Clone, Debug)]
pub struct Devices {
    path: PathBuf,
    entries: Arc<RwLock<BTreeMap<Id, Entry>>>,
}

impl Devices {
    /// Reads the table; there may be none yet.
    pub fn open(path: PathBuf) -> Result<Self, DevicesError> {
        let entries = match fs::read(&path) {
            Ok(bytes) => codec::decode_json(&bytes).map_err(|source| DevicesError::Malformed {
                path: path.clone(),
                source,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => {
                return Err(DevicesError::File {
                    doing: "reading",
                    path,
                    source,
                });
            }
        };
        Ok(Self {
            path,
            entries: Arc::new(RwLock::new(entries)),
        })
    }

    /// A device of ours.
    pub fn get(&self, device: &Id) -> Option<Device> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(device)?.device.clone()
    }

    /// Whether a Thing of this name may register.
    pub fn admits(&self, endpoint: &str) -> bool {
        Id::new(endpoint).is_ok_and(|device| self.get(&device).is_some())
    }

    /// Takes what was proven at `height`. True if it changed anything. Waits for the disk.
    ///
    /// # Errors
    /// Too many devices, or the disk failed; then nothing has changed.
    pub fn learn(
        &self,
        name: &Id,
        device: Option<Device>,
        height: u64,
    ) -> Result<bool, DevicesError> {
        let mut next = self
            .entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match next.get(name) {
            Some(known) if height < known.height => return Ok(false),
            Some(known) if known.device == device => {
                // Not worth a write: after a restart an older proof is believed once more, as long
                // as proofs of that age are believed at all.
                self.raise(name, height);
                return Ok(false);
            }
            None if device.is_none() => return Ok(false),
            None if next.len() >= DEVICES_MAX => {
                next.retain(|_, entry| entry.device.is_some());
                if next.len() >= DEVICES_MAX {
                    return Err(DevicesError::TooMany);
                }
            }
            _ => {}
        }
        next.insert(name.clone(), Entry { device, height });
        let bytes = serde_json::to_vec(&next).expect("ids are text keys");
        replace(&self.path, &bytes).map_err(|source| DevicesError::File {
            doing: "writing",
            path: self.path.clone(),
            source,
        })?;
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(true)
    }

    fn raise(&self, name: &Id, height: u64) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = entries.get_mut(name) {
            known.height = height;
        }
    }
}

/// Writes beside the file, syncs, renames, syncs the directory: the file is always whole.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
