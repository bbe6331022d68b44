//! The table of this gateway's devices, as last proven. It is on disk, so that Things are served
//! while no node is in reach.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lamplighter_system::files;
use lamplighter_types::codec::{self, CodecError};
use lamplighter_types::wire::work::{
    DEVICES_HELD_MAX, DeviceMark, DevicesDigester, DevicesHeld, RangeDigest, SYNC_RANGES_MAX,
    SyncRequest,
};
use lamplighter_types::{Device, Id};
use serde::{Deserialize, Serialize};

/// Devices in the table: more than a mesh can carry. A node can't make the gateway keep more.
pub const DEVICES_MAX: usize = 10_000;

/// Names in one message to a node: about 4 KiB with names of usual length, which a slow link
/// carries in seconds.
pub const HELD_RANGE_MAX: usize = 64;
const _: () = assert!(HELD_RANGE_MAX <= DEVICES_HELD_MAX);
/// Ranges into which a range with more devices is divided: of 10,000 devices one that differs is
/// found in three messages.
const PARTS: usize = 16;
const _: () = assert!(PARTS <= SYNC_RANGES_MAX);

/// The names after `after` up to `until`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameRange {
    pub after: Option<Id>,
    pub until: Option<Id>,
}

impl NameRange {
    fn is_empty(&self) -> bool {
        self.after.is_some() && self.until.is_some() && self.after >= self.until
    }
}

fn digest_of(range: &NameRange, marks: &[(Id, DeviceMark)]) -> RangeDigest {
    let mut digester = DevicesDigester::default();
    for (name, mark) in marks {
        digester.add(name, mark);
    }
    let (count, digest) = digester.finish();
    RangeDigest {
        after: range.after.clone(),
        until: range.until.clone(),
        count,
        digest,
    }
}

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

    /// The digest of all devices of this gateway.
    pub fn digest(&self) -> RangeDigest {
        let range = NameRange::default();
        digest_of(&range, &self.marks(&range))
    }

    /// The answer to a node that asks what this gateway holds in a range: the devices, or the
    /// digests of smaller ranges if there are too many.
    pub fn held(&self, range: &NameRange) -> SyncRequest {
        let marks = self.marks(range);
        if marks.len() <= HELD_RANGE_MAX {
            return SyncRequest {
                devices: Some(DevicesHeld {
                    after: range.after.clone(),
                    until: range.until.clone(),
                    devices: marks.into_iter().collect(),
                }),
                ..SyncRequest::default()
            };
        }
        let part_len = marks.len().div_ceil(PARTS).max(HELD_RANGE_MAX);
        let mut after = range.after.clone();
        let mut ranges = Vec::new();
        let mut parts = marks.chunks(part_len).peekable();
        while let Some(part) = parts.next() {
            let last = part.last().map(|(name, _)| name.clone());
            let is_last = parts.peek().is_none();
            let until = if is_last { range.until.clone() } else { last };
            let part_range = NameRange { after, until };
            ranges.push(digest_of(&part_range, part));
            after = part_range.until;
        }
        SyncRequest {
            ranges,
            ..SyncRequest::default()
        }
    }

    /// The devices of this gateway in a range.
    fn marks(&self, range: &NameRange) -> Vec<(Id, DeviceMark)> {
        let table = self.read();
        let begin = range
            .after
            .clone()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let end = range
            .until
            .clone()
            .map_or(Bound::Unbounded, Bound::Included);
        if range.is_empty() {
            return Vec::new();
        }
        let entries = table.entries.range((begin, end));
        let devices = entries.filter_map(|(name, entry)| {
            let device = entry.device.as_ref()?;
            Some((name.clone(), DeviceMark::of(device)))
        });
        devices.collect()
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
