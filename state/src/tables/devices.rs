//! The index of events by device.

use lamplighter_store::{Direction, KvView, WriteBatch};
use lamplighter_types::{EventRecord, Id};

use super::blocks::items;
use super::keys::{DEVICE_EVENTS, EVENTS, last_number};
use super::row;
use crate::StateError;

/// An event of a device with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEventEntry {
    pub height: u64,
    /// Place among the events of the block.
    pub index: u32,
    pub record: EventRecord,
}

/// Adds the index of events by device.
pub(super) fn put(batch: &mut WriteBatch, height: u64, events: &[EventRecord]) {
    for (record, index) in events.iter().zip(0u32..) {
        let key = DEVICE_EVENTS.device_sequence(&record.event.device, record.event.sequence);
        row::put(batch, DEVICE_EVENTS, key, &(height, index));
    }
}

/// Event `index` of the block at `height`.
pub fn event(
    store: &dyn KvView,
    height: u64,
    index: u32,
) -> Result<Option<EventRecord>, StateError> {
    Ok(
        items(store, EVENTS, &[(height, index)], |_, event| Ok(event))?
            .pop()
            .flatten(),
    )
}

/// The event of a device with the sequence number `sequence`.
pub fn device_event(
    store: &dyn KvView,
    device: &Id,
    sequence: u64,
) -> Result<Option<DeviceEventEntry>, StateError> {
    let key = DEVICE_EVENTS.device_sequence(device, sequence);
    let place: Option<(u64, u32)> = row::get(store, DEVICE_EVENTS, &key)?;
    let place: Vec<_> = place.into_iter().collect();
    Ok(entries(store, &place)?.pop())
}

/// Up to `limit` events of a device in the given direction of their sequence numbers, beyond
/// `cursor` if one is given: above it forwards, below it backwards.
pub fn device_events(
    store: &dyn KvView,
    device: &Id,
    cursor: Option<u64>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<DeviceEventEntry>, StateError> {
    let prefix = DEVICE_EVENTS.device(device);
    let cursor = cursor.map(|sequence| DEVICE_EVENTS.device_sequence(device, sequence));
    let range = match direction {
        Direction::Forward => row::after(prefix, cursor),
        Direction::Backward => row::before(prefix, cursor),
    };
    let found = row::scan::<(u64, u32)>(store, DEVICE_EVENTS, range, direction)?;
    let places = found.take(limit).map(|found| {
        let (key, place) = found?;
        row::read_key(DEVICE_EVENTS, &key, last_number(&key))?;
        Ok(place)
    });
    entries(store, &places.collect::<Result<Vec<_>, StateError>>()?)
}

fn entries(store: &dyn KvView, places: &[(u64, u32)]) -> Result<Vec<DeviceEventEntry>, StateError> {
    let records = items(store, EVENTS, places, |_, event| Ok(event))?;
    let entry = |(record, (height, index)): (Option<EventRecord>, &(u64, u32))| {
        let missing = || StateError::Missing {
            what: format!("the event {height}.{index}, which an index names,"),
        };
        Ok(DeviceEventEntry {
            height: *height,
            index: *index,
            record: record.ok_or_else(missing)?,
        })
    };
    records.into_iter().zip(places).map(entry).collect()
}
