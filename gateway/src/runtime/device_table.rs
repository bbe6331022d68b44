//! The table of this gateway's devices, as last proven. It is on disk, so that Things are served
//! while no node is in reach.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lamplighter_system::files;
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::wire::work::{DEVICES_HELD_MAX, DeviceMark, DevicesHeld};
use lamplighter_types::{Device, Id};
use serde::{Deserialize, Serialize};

/// Devices in the table: more than a mesh can carry. A node can't make the gateway keep more.
pub const DEVICES_MAX: usize = 10_000;

/// Names in one range that the gateway sends to a node, though the node takes [`DEVICES_HELD_MAX`]:
/// with the longest names these are less than 64 KiB, which a slow link carries in seconds, and
/// other messages wait no longer behind them. A node drops a connection whose message takes too
/// long.
pub const HELD_RANGE_MAX: usize = 500;
const _: () = assert!(HELD_RANGE_MAX <= DEVICES_HELD_MAX);

/// Why the table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeviceTableError {
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
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
struct DeviceEntry {
    /// None: it was this gateway's and is not any more.
    device: Option<Device>,
    /// Height of the proven state.
    height: u64,
}

#[derive(Debug)]
struct Entries {
    entries: BTreeMap<Id, DeviceEntry>,
    /// The file on the disk is older.
    changed: bool,
}

/// The consequences of proofs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DeviceTableChanges {
    /// Devices that are not this gateway's any more.
    pub removed: Vec<Id>,
    /// New devices that the table has no place for: it has [`DEVICES_MAX`].
    pub omitted: usize,
}

/// The table of devices. Clones share it.
#[derive(Clone, Debug)]
pub struct DeviceTable {
    path: PathBuf,
    table: Arc<RwLock<Entries>>,
}

impl DeviceTable {
    /// Reads the table; the file may not exist yet.
    pub fn open(path: PathBuf) -> Result<Self, DeviceTableError> {
        let entries = match fs::read(&path) {
            Ok(bytes) => {
                codec::decode_json(&bytes).map_err(|source| DeviceTableError::Malformed {
                    path: path.clone(),
                    source,
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => {
                return Err(DeviceTableError::File {
                    operation: "reading",
                    path,
                    source,
                });
            }
        };
        let table = Entries {
            entries,
            changed: false,
        };
        Ok(Self {
            path,
            table: Arc::new(RwLock::new(table)),
        })
    }

    /// The record of a device, if it is this gateway's.
    pub fn get(&self, device: &Id) -> Option<Device> {
        self.read().entries.get(device)?.device.clone()
    }

    /// True if the device is this gateway's.
    pub fn contains(&self, device: &Id) -> bool {
        let table = self.read();
        let entry = table.entries.get(device);
        entry.is_some_and(|entry| entry.device.is_some())
    }

    /// True if a Thing of this name may register.
    pub fn admits(&self, endpoint: &str) -> bool {
        Id::new(endpoint).is_ok_and(|device| self.contains(&device))
    }

    /// Updates devices from proofs, each with the height of the proven state. This is memory only:
    /// [`save`](Self::save) makes it durable.
    pub fn update(
        &self,
        proven: impl IntoIterator<Item = (Id, Option<Device>, u64)>,
    ) -> DeviceTableChanges {
        let mut table = self.write();
        let mut changes = DeviceTableChanges::default();
        for (name, device, height) in proven {
            let is_removed = device.is_none();
            match table.update(name.clone(), device, height) {
                Ok(true) if is_removed => changes.removed.push(name),
                Ok(_) => {}
                Err(TableFull) => changes.omitted += 1,
            }
        }
        changes
    }

    /// True if a change is not on the disk yet.
    pub fn is_changed(&self) -> bool {
        self.read().changed
    }

    /// Writes the table, if it has changed since the last time. Blocks on the disk.
    ///
    /// # Errors
    /// The disk failed; it can be tried again.
    pub fn save(&self) -> Result<(), DeviceTableError> {
        let bytes = {
            let mut table = self.write();
            if !std::mem::take(&mut table.changed) {
                return Ok(());
            }
            serde_json::to_vec(&table.entries).expect("ids are text keys")
        };
        files::replace(&self.path, &bytes).map_err(|source| {
            self.write().changed = true;
            DeviceTableError::File {
                operation: "writing",
                path: self.path.clone(),
                source,
            }
        })
    }

    /// The devices of this gateway, in ranges of at most [`HELD_RANGE_MAX`] names.
    pub fn held_ranges(&self) -> Vec<DevicesHeld> {
        let table = self.read();
        let devices = table.entries.iter().filter_map(|(name, entry)| {
            let device = entry.device.as_ref()?;
            Some((name.clone(), DeviceMark::of(device)))
        });
        let devices: Vec<_> = devices.collect();
        let mut ranges: Vec<DevicesHeld> = devices
            .chunks(HELD_RANGE_MAX)
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

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table is full.
struct TableFull;

impl Entries {
    /// Updates one device; true if its record changed, or it came to this gateway or left it.
    fn update(&mut self, name: Id, device: Option<Device>, height: u64) -> Result<bool, TableFull> {
        if let Some(entry) = self.entries.get_mut(&name) {
            if height < entry.height {
                return Ok(false);
            }
            if entry.device == device {
                // This is not worth a write: after a restart an older proof is accepted once more,
                // as long as proofs of that age are accepted at all.
                entry.height = height;
                return Ok(false);
            }
        } else if device.is_none() {
            return Ok(false);
        } else if self.entries.len() >= DEVICES_MAX {
            self.entries.retain(|_, entry| entry.device.is_some());
            if self.entries.len() >= DEVICES_MAX {
                return Err(TableFull);
            }
        }
        self.entries.insert(name, DeviceEntry { device, height });
        self.changed = true;
        Ok(true)
    }
}
