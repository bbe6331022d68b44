//! What devices without our agent say about themselves, in a file for people and programs beside
//! the gateway. Nothing in it is proven, and nothing depends on it: a damaged file is put aside.
//!
//! The ledger's own inventory names the digest of what a device runs, which such a device can't
//! tell. So the ledger gets what seldom changes as an event instead, when it changes.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lamplighter_system::files;
use lamplighter_types::Id;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::device_table::DEVICES_MAX;
use crate::lwm2m::inventory::{NamedValue, is_fact};
use crate::lwm2m::resource::ResourceValue;
use crate::lwm2m::senml::{SenmlRecord, SenmlValue};

/// A device is asked again at its first registration after this time: each time costs it some
/// messages.
const READ_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A device that has not answered is asked again after this time.
const ASK_EVERY: Duration = Duration::from_secs(3600);
/// The file is written at most this often: it is as long as all devices together have to say.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The inventory of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inventory {
    /// When it was read, in Unix ms.
    read_ms: u64,
    values: BTreeMap<String, serde_json::Value>,
}

/// The inventories of all devices.
#[derive(Debug)]
pub(super) struct Inventories {
    path: PathBuf,
    inventories: BTreeMap<Id, Inventory>,
    asked_at: BTreeMap<Id, Instant>,
    changed: bool,
    saved_at: Instant,
}

impl Inventories {
    /// Reads the file, which may not exist yet.
    pub fn open(path: PathBuf, now: Instant) -> Self {
        let read = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        let inventories = read.unwrap_or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, "the inventory is not usable; devices are asked again");
            }
            BTreeMap::new()
        });
        Self {
            path,
            inventories,
            asked_at: BTreeMap::new(),
            changed: false,
            saved_at: now,
        }
    }

    /// True if a device that has registered is to be asked; then it was asked just now.
    pub fn ask(&mut self, device: &Id, now: Instant, now_ms: u64) -> bool {
        let known = self.inventories.get(device);
        let age_ms = known.map(|known| now_ms.saturating_sub(known.read_ms));
        let is_old = age_ms.is_none_or(|age| Duration::from_millis(age) >= READ_EVERY);
        let asked = self.asked_at.get(device);
        let is_due = is_old && asked.is_none_or(|at| now.duration_since(*at) >= ASK_EVERY);
        if is_due {
            self.asked_at.insert(device.clone(), now);
        }
        is_due
    }

    /// Makes a device be asked again: it has been updated.
    pub fn expire(&mut self, device: &Id) {
        self.asked_at.remove(device);
        if let Some(known) = self.inventories.get_mut(device) {
            known.read_ms = 0;
        }
    }

    /// Keeps what a device said. Returns what the ledger should get: what seldom changes, if any of
    /// it is another than before.
    pub fn record(&mut self, device: &Id, values: &[NamedValue], now_ms: u64) -> Vec<SenmlRecord> {
        self.asked_at.remove(device);
        let is_known = self.inventories.contains_key(device);
        if !is_known && self.inventories.len() >= DEVICES_MAX {
            return Vec::new();
        }
        let new: BTreeMap<_, _> = values
            .iter()
            .map(|(path, value)| (path.clone(), json_of(value)))
            .collect();
        let facts = |values: &BTreeMap<String, serde_json::Value>| {
            let facts = values.iter().filter(|(path, _)| is_fact(path));
            facts
                .map(|(p, v)| (p.clone(), v.clone()))
                .collect::<Vec<_>>()
        };
        let before = self
            .inventories
            .get(device)
            .map(|known| facts(&known.values));
        let is_changed = before.unwrap_or_default() != facts(&new);
        let inventory = Inventory {
            read_ms: now_ms,
            values: new,
        };
        self.inventories.insert(device.clone(), inventory);
        self.changed = true;
        let facts = values
            .iter()
            .filter(|(path, _)| is_changed && is_fact(path));
        facts.map(record_of).collect()
    }

    /// Writes the file if it is due, or at the end, without the devices that are not served here
    /// any more. Blocks on the disk.
    pub fn save(&mut self, now: Instant, at_once: bool, is_served: impl Fn(&Id) -> bool) {
        let is_due = at_once || now.duration_since(self.saved_at) >= SAVE_EVERY;
        if !self.changed || !is_due {
            return;
        }
        self.saved_at = now;
        self.inventories.retain(|device, _| is_served(device));
        self.asked_at.retain(|device, _| is_served(device));
        let bytes = serde_json::to_vec_pretty(&self.inventories).expect("ids are text keys");
        match files::replace(&self.path, &bytes) {
            Ok(()) => self.changed = false,
            Err(error) => tracing::warn!(%error, "the inventory was not written"),
        }
    }
}

fn json_of(value: &ResourceValue) -> serde_json::Value {
    match value {
        ResourceValue::Boolean(flag) => (*flag).into(),
        ResourceValue::Integer(number) => (*number).into(),
        ResourceValue::Float(number) => number.get().into(),
        ResourceValue::Text(text) => text.clone().into(),
        ResourceValue::Opaque(bytes) => hex::encode(bytes).into(),
    }
}

fn record_of((path, value): &NamedValue) -> SenmlRecord {
    let value = match value {
        ResourceValue::Boolean(flag) => SenmlValue::Boolean(*flag),
        ResourceValue::Integer(number) => SenmlValue::Integer(*number),
        ResourceValue::Float(number) => SenmlValue::Float(number.get()),
        ResourceValue::Text(text) => SenmlValue::Text(text.clone()),
        ResourceValue::Opaque(bytes) => SenmlValue::Bytes(bytes.clone()),
    };
    SenmlRecord {
        name: path.clone(),
        value: Some(value),
    }
}
