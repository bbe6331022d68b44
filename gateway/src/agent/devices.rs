//! The devices of this gateway, as last proven. On disk, so that Things are served while no node is
//! in reach.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::work::{DEVICES_HELD_MAX, DeviceMark, DevicesHeld};
use lamplighter_types::{Device, Id};
use serde::{Deserialize, Serialize};

/// More than a mesh can carry; a node can't make us keep more.
pub const DEVICES_MAX: usize = 10_000;

/// Names that the node is told at once, though it takes [`DEVICES_HELD_MAX`]: with the longest
/// ones these are less than 64 KiB, which a slow link carries in seconds, and other messages wait
/// no longer behind them. A node gives up on a message that takes too long.
pub const HELD_AT_ONCE_MAX: usize = 500;
const _: () = assert!(HELD_AT_ONCE_MAX <= DEVICES_HELD_MAX);

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
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// None: it was ours and is not any more.
    device: Option<Device>,
    /// Height of the proven state.
    height: u64,
}

#[derive(Debug)]
struct Table {
    entries: BTreeMap<Id, Entry>,
    /// It is not on the disk as it is here.
    changed: bool,
}

/// What came of proofs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// Devices that are ours no more.
    pub gone: Vec<Id>,
    /// New ones that there is no place for: there are [`DEVICES_MAX`].
    pub left_out: usize,
}

/// The table. Clones share it.
#[derive(Clone, Debug)]
pub struct Devices {
    path: PathBuf,
    table: Arc<RwLock<Table>>,
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
        let table = Table {
            entries,
            changed: false,
        };
        Ok(Self {
            path,
            table: Arc::new(RwLock::new(table)),
        })
    }

    /// A device of ours.
    pub fn get(&self, device: &Id) -> Option<Device> {
        self.read().entries.get(device)?.device.clone()
    }

    /// Whether there is such a device of ours.
    pub fn has(&self, device: &Id) -> bool {
        let table = self.read();
        let entry = table.entries.get(device);
        entry.is_some_and(|entry| entry.device.is_some())
    }

    /// Whether a Thing of this name may register.
    pub fn admits(&self, endpoint: &str) -> bool {
        Id::new(endpoint).is_ok_and(|device| self.has(&device))
    }

    /// Takes what was proven of some devices, each with the height of the state. This is memory
    /// only: [`save`](Self::save) makes it last.
    pub fn learn(&self, proven: impl IntoIterator<Item = (Id, Option<Device>, u64)>) -> Learnt {
        let mut table = self.write();
        let mut learnt = Learnt::default();
        for (name, device, height) in proven {
            let left = device.is_none();
            match table.take(name.clone(), device, height) {
                Ok(true) if left => learnt.gone.push(name),
                Ok(_) => {}
                Err(TooMany) => learnt.left_out += 1,
            }
        }
        learnt
    }

    /// Whether something is not on the disk yet.
    pub fn is_changed(&self) -> bool {
        self.read().changed
    }

    /// Writes what was learnt since the last time. Waits for the disk.
    ///
    /// # Errors
    /// The disk failed; it can be tried again.
    pub fn save(&self) -> Result<(), DevicesError> {
        let bytes = {
            let mut table = self.write();
            if !std::mem::take(&mut table.changed) {
                return Ok(());
            }
            serde_json::to_vec(&table.entries).expect("ids are text keys")
        };
        replace(&self.path, &bytes).map_err(|source| {
            self.write().changed = true;
            DevicesError::File {
                doing: "writing",
                path: self.path.clone(),
                source,
            }
        })
    }

    /// What is held, in ranges of at most [`HELD_AT_ONCE_MAX`] names.
    pub fn held(&self) -> Vec<DevicesHeld> {
        let table = self.read();
        let own = table.entries.iter().filter_map(|(name, entry)| {
            let device = entry.device.as_ref()?;
            Some((name.clone(), DeviceMark::of(device)))
        });
        let own: Vec<_> = own.collect();
        let mut ranges: Vec<DevicesHeld> = own
            .chunks(HELD_AT_ONCE_MAX)
            .map(|part| DevicesHeld {
                after: None,
                until: part.last().map(|(name, _)| name.clone()),
                devices: part.iter().cloned().collect(),
            })
            .collect();
        if ranges.is_empty() {
            ranges.push(DevicesHeld::default());
        }
        for at in 1..ranges.len() {
            ranges[at].after = ranges[at - 1].until.clone();
        }
        if let Some(last) = ranges.last_mut() {
            last.until = None;
        }
        ranges
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table is full.
struct TooMany;

impl Table {
    /// True if it changed whose the device is, or its record.
    fn take(&mut self, name: Id, device: Option<Device>, height: u64) -> Result<bool, TooMany> {
        if let Some(known) = self.entries.get_mut(&name) {
            if height < known.height {
                return Ok(false);
            }
            if known.device == device {
                // Not worth a write: after a restart an older proof is believed once more, as long
                // as proofs of that age are believed at all.
                known.height = height;
                return Ok(false);
            }
        } else if device.is_none() {
            return Ok(false);
        } else if self.entries.len() >= DEVICES_MAX {
            self.entries.retain(|_, entry| entry.device.is_some());
            if self.entries.len() >= DEVICES_MAX {
                return Err(TooMany);
            }
        }
        self.entries.insert(name, Entry { device, height });
        self.changed = true;
        Ok(true)
    }
}

/// Writes beside the file, syncs, renames, syncs the directory: the file is always whole.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_parent(path)
}

/// Syncs the directory of a file: that it is there, under this name, lasts.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
