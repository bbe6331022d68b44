//! The index of devices by terms (model, district, tag, release and others), and the time at which
//! each device was last seen. Both follow from the state and the blocks, are in no hash and in
//! no proof, and are made again when they are not those of the newest block.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lamplighter_store::{Cf, Direction, KeyRange, KvView, WriteBatch};
use lamplighter_types::tables::Table;
use lamplighter_types::{
    DeploymentState, Device, DeviceAlarms, DeviceState, DeviceStatus, Fact, Hash, Id, Notification,
    Receipt, ReportedConfig, Scope, Version,
};

use super::keys::{DEVICE_SEEN, DEVICE_TERMS, DEVICES_INDEXED};
use super::row;
use crate::view::decode_record;
use crate::{Changes, StateError};

/// A value by which devices are found. What nearly all devices have in common is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceTerm {
    Model(String),
    HardwareClass(String),
    /// The district of the device, or one around it.
    District(Scope),
    /// Name and value.
    Tag(String, String),
    Suspended,
    Decommissioned,
    /// Runs something else than its release.
    Drifted,
    Release(Id),
    Version(Version),
    /// The rollout at work on it.
    Rollout(Id),
    /// The configuration document that it last reported.
    Config(Hash),
    /// The kind of an active alarm.
    Alarm(String),
    /// At least one active alarm.
    AnyAlarm,
}

/// The time of the block in which a device was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// Unix ms.
    pub time_ms: u64,
    /// False for the time of its registration: nothing came since.
    pub has_reported: bool,
}

/// The tables whose records have terms.
const TABLES: [Table; 4] = [
    Table::Device,
    Table::DeviceState,
    Table::ReportedConfig,
    Table::DeviceAlarms,
];

/// Adds the changes that a block makes to the index. `before` is the state below the block.
///
/// # Errors
/// A record can't be read.
pub fn put_device_terms(
    batch: &mut WriteBatch,
    before: &dyn KvView,
    changes: &Changes,
) -> Result<(), StateError> {
    for table in TABLES {
        let first = [table as u8];
        let writes = changes.writes.range(first.to_vec()..);
        for (key, value) in writes.take_while(|(key, _)| key.starts_with(&first)) {
            let old = match before.get(Cf::State, key)? {
                Some(record) => terms(key, &record)?,
                None => BTreeSet::new(),
            };
            let new = match value {
                Some(record) => terms(key, record)?,
                None => BTreeSet::new(),
            };
            let device = device_of(key)?;
            for term in old.difference(&new) {
                batch.delete(DEVICE_TERMS.cf, DEVICE_TERMS.device_term(term, device));
            }
            for term in new.difference(&old) {
                put_term(batch, term, device);
            }
        }
    }
    Ok(())
}

/// Adds the terms of a record of the state to an index that does not have it, if it has any.
///
/// # Errors
/// The record is damaged.
pub fn put_record_terms(
    batch: &mut WriteBatch,
    key: &[u8],
    record: &[u8],
) -> Result<(), StateError> {
    if !TABLES
        .iter()
        .any(|table| key.first() == Some(&(*table as u8)))
    {
        return Ok(());
    }
    let device = device_of(key)?;
    for term in terms(key, record)? {
        put_term(batch, &term, device);
    }
    Ok(())
}

/// The ranges of the state that have records with terms.
pub fn ranges_with_terms() -> [KeyRange; TABLES.len()] {
    TABLES.map(|table| KeyRange::prefix(vec![table as u8]))
}

fn put_term(batch: &mut WriteBatch, term: &DeviceTerm, device: &[u8]) {
    let key = DEVICE_TERMS.device_term(term, device);
    row::put(batch, DEVICE_TERMS, key, &());
}

/// The name in the key of a record: all tables with terms have the device alone.
fn device_of(key: &[u8]) -> Result<&[u8], StateError> {
    let name = key.get(1..).and_then(|rest| rest.strip_suffix(&[0]));
    row::read_key(DEVICE_TERMS, key, name)
}

fn terms(key: &[u8], record: &[u8]) -> Result<BTreeSet<DeviceTerm>, StateError> {
    let is_of = |table: Table| key.first() == Some(&(table as u8));
    Ok(if is_of(Table::Device) {
        of_device(decode_record(key, record)?)
    } else if is_of(Table::DeviceState) {
        of_state(decode_record(key, record)?)
    } else if is_of(Table::ReportedConfig) {
        let config: ReportedConfig = decode_record(key, record)?;
        BTreeSet::from([DeviceTerm::Config(config.document)])
    } else {
        of_alarms(decode_record(key, record)?)
    })
}

fn of_device(device: Device) -> BTreeSet<DeviceTerm> {
    let status = match device.status {
        DeviceStatus::Active => None,
        DeviceStatus::Suspended => Some(DeviceTerm::Suspended),
        DeviceStatus::Decommissioned => Some(DeviceTerm::Decommissioned),
    };
    // Every device is in the city.
    let districts = device.district.ancestry().into_iter();
    let districts = districts.filter(|district| *district != Scope::city());
    let tags = device.tags.into_iter();
    let tags = tags.map(|tag| DeviceTerm::Tag(tag.name, tag.value));
    [
        DeviceTerm::Model(device.model),
        DeviceTerm::HardwareClass(device.hardware_class),
    ]
    .into_iter()
    .chain(districts.map(DeviceTerm::District))
    .chain(tags)
    .chain(status)
    .collect()
}

fn of_state(state: DeviceState) -> BTreeSet<DeviceTerm> {
    let parts = [
        state.version.map(DeviceTerm::Version),
        state.release.map(DeviceTerm::Release),
        state.active_rollout.map(DeviceTerm::Rollout),
        state.drifted.then_some(DeviceTerm::Drifted),
    ];
    parts.into_iter().flatten().collect()
}

fn of_alarms(alarms: DeviceAlarms) -> BTreeSet<DeviceTerm> {
    let active = alarms.kinds.into_iter();
    let active = active.filter(|kind| kind.active.is_some());
    let mut terms: BTreeSet<_> = active.map(|kind| DeviceTerm::Alarm(kind.kind)).collect();
    if !terms.is_empty() {
        terms.insert(DeviceTerm::AnyAlarm);
    }
    terms
}

/// The devices with a term by id, after the device `after`.
///
/// # Errors
/// The store can't be read.
pub fn devices_with<'a>(
    store: &'a dyn KvView,
    term: &DeviceTerm,
    after: Option<&Id>,
) -> Result<impl Iterator<Item = Result<Id, StateError>> + use<'a>, StateError> {
    let prefix = DEVICE_TERMS.term(term);
    let name_at = prefix.len();
    let after = after.map(|after| DEVICE_TERMS.device_term(term, after.as_str().as_bytes()));
    let found = store.scan(
        DEVICE_TERMS.cf,
        row::after(prefix, after),
        Direction::Forward,
    )?;
    Ok(found.map(move |row| {
        let (key, _) = row?;
        let name = key.get(name_at..);
        row::read_key(DEVICE_TERMS, &key, name.and_then(id))
    }))
}

/// The devices among some that have a term, in their order.
///
/// # Errors
/// The store can't be read.
pub fn having_term(
    store: &dyn KvView,
    term: &DeviceTerm,
    devices: Vec<Id>,
) -> Result<Vec<Id>, StateError> {
    let key = |device: &Id| DEVICE_TERMS.device_term(term, device.as_str().as_bytes());
    let keys: Vec<_> = devices.iter().map(key).collect();
    let mut rows = row::get_many::<()>(store, DEVICE_TERMS, &keys)?.into_iter();
    let mut having = devices;
    having.retain(|_| rows.next().flatten().is_some());
    Ok(having)
}

fn id(name: &[u8]) -> Option<Id> {
    Id::new(std::str::from_utf8(name).ok()?).ok()
}

/// Adds the times of devices that a block saw.
pub(super) fn put_seen<'a>(
    batch: &mut WriteBatch,
    time_ms: u64,
    receipts: impl Iterator<Item = &'a Receipt>,
) {
    let mut seen: BTreeMap<&Id, bool> = BTreeMap::new();
    for notification in receipts.flat_map(|receipt| &receipt.notifications) {
        let Notification {
            place: Some(place),
            fact,
        } = notification
        else {
            continue;
        };
        match fact {
            Fact::DeviceRegistered => {
                seen.entry(&place.device).or_default();
            }
            fact if is_from_thing(fact) => {
                seen.insert(&place.device, true);
            }
            _ => {}
        }
    }
    for (device, has_reported) in seen {
        let key = DEVICE_SEEN.name(device);
        row::put(batch, DEVICE_SEEN, key, &(time_ms, has_reported));
    }
}

/// Tells whether a fact came from the Thing: not from its gateway alone, from people or from time.
fn is_from_thing(fact: &Fact) -> bool {
    use DeploymentState::*;
    match fact {
        Fact::EventAppended { .. }
        | Fact::InventoryReported { .. }
        | Fact::ConfigReported { .. } => true,
        Fact::DeploymentMoved { from, to, .. } => {
            let steps = [
                Downloaded, Installing, Staged, Trial, Confirmed, Reverted, Rejected,
            ];
            // The contract returns a postponed one to the state that it had.
            *from != Some(Postponed) && steps.contains(to)
        }
        _ => false,
    }
}

/// The times at which devices were last seen, in the order of the devices; none for one that
/// does not exist.
///
/// # Errors
/// The store can't be read.
pub fn last_seen(store: &dyn KvView, devices: &[Id]) -> Result<Vec<Option<LastSeen>>, StateError> {
    let keys: Vec<_> = devices.iter().map(|id| DEVICE_SEEN.name(id)).collect();
    let found = row::get_many::<(u64, bool)>(store, DEVICE_SEEN, &keys)?;
    let seen = |(time_ms, has_reported)| LastSeen {
        time_ms,
        has_reported,
    };
    Ok(found.into_iter().map(|found| found.map(seen)).collect())
}

/// All devices by id, after the device `after`, with the time at which each was last seen.
///
/// # Errors
/// The store can't be read.
pub fn all_seen<'a>(
    store: &'a dyn KvView,
    after: Option<&Id>,
) -> Result<impl Iterator<Item = Result<(Id, LastSeen), StateError>> + use<'a>, StateError> {
    let after = after.map(|after| DEVICE_SEEN.name(after));
    let range = row::after(DEVICE_SEEN.only(), after);
    let found = row::scan::<(u64, bool)>(store, DEVICE_SEEN, range, Direction::Forward)?;
    let name_at = DEVICE_SEEN.only().len();
    Ok(found.map(move |row| {
        let (key, (time_ms, has_reported)) = row?;
        let device = row::read_key(DEVICE_SEEN, &key, key.get(name_at..).and_then(id))?;
        let seen = LastSeen {
            time_ms,
            has_reported,
        };
        Ok((device, seen))
    }))
}

/// Adds the height up to which the index has all blocks.
pub fn put_devices_indexed(batch: &mut WriteBatch, height: u64) {
    row::put(batch, DEVICES_INDEXED, DEVICES_INDEXED.only(), &height);
}

/// The height up to which the index has all blocks; none in a store that is older than the index,
/// and while it is being made.
///
/// # Errors
/// The store can't be read.
pub fn devices_indexed(store: &dyn KvView) -> Result<Option<u64>, StateError> {
    row::get(store, DEVICES_INDEXED, &DEVICES_INDEXED.only())
}

/// Removes the index, before it is made again.
pub fn remove_device_terms(batch: &mut WriteBatch) {
    batch.delete(DEVICES_INDEXED.cf, DEVICES_INDEXED.only());
    batch.delete_range(DEVICE_TERMS.cf, row::whole(DEVICE_TERMS));
}

/// Adds the times of the devices that a stored block saw.
///
/// # Errors
/// The store can't be read.
pub fn index_seen(
    store: &dyn KvView,
    batch: &mut WriteBatch,
    height: u64,
) -> Result<(), StateError> {
    let header = super::header(store, height)?;
    let header = header.ok_or_else(|| StateError::Missing {
        what: format!("the header {height}"),
    })?;
    let receipts = super::receipts(store, height)?;
    put_seen(batch, header.timestamp_ms, receipts.iter());
    Ok(())
}

/// The parts of a term in its key: a kind, and text.
pub(crate) fn key_parts(term: &DeviceTerm) -> (u8, Bytes, Bytes) {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let one = |kind, value: &str| (kind, text(value), Bytes::new());
    match term {
        DeviceTerm::Model(model) => one(b'm', model),
        DeviceTerm::HardwareClass(class) => one(b'h', class),
        DeviceTerm::District(district) => one(b'd', district.as_str()),
        DeviceTerm::Tag(name, value) => (b't', text(name), text(value)),
        DeviceTerm::Suspended => one(b's', ""),
        DeviceTerm::Decommissioned => one(b'x', ""),
        DeviceTerm::Drifted => one(b'f', ""),
        DeviceTerm::Release(release) => one(b'r', release.as_str()),
        DeviceTerm::Version(version) => one(b'v', &version.to_string()),
        DeviceTerm::Rollout(rollout) => one(b'o', rollout.as_str()),
        DeviceTerm::Config(hash) => one(b'c', &hash.to_string()),
        DeviceTerm::Alarm(kind) => one(b'a', kind),
        DeviceTerm::AnyAlarm => one(b'y', ""),
    }
}
