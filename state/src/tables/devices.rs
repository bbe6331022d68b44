use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter_store::{Batch, Direction, KvView};
use lamplighter_types::{EventRecord, Fact, Id, Notification, Receipt};

use super::blocks::{item, receipt};
use super::keys::{DEVICE_EVENTS, DEVICE_RECEIPTS, EVENTS, last_item, last_number};
use super::row;
use crate::StateError;

/// An event of a device with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEventEntry {
    pub height: u64,
    /// Among the events of the block.
    pub index: u32,
    pub record: EventRecord,
}

/// What a receipt says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReceipt {
    pub height: u64,
    /// Of the receipt in its block. With `height`, the cursor.
    pub index: u32,
    /// The receipt, with the notifications about this device only.
    pub receipt: Receipt,
}

/// Adds the indexes by device. Appended events have one of their own and do not count as history.
pub(super) fn put(
    batch: &mut Batch,
    height: u64,
    receipts: &[Arc<Receipt>],
    events: &[EventRecord],
) {
    for (record, index) in events.iter().zip(0u32..) {
        let key = DEVICE_EVENTS.device_sequence(&record.event.device, record.event.sequence);
        row::put(batch, DEVICE_EVENTS, key, &(height, index));
    }
    for (receipt, index) in receipts.iter().zip(0u32..) {
        let about = receipt.notifications.iter().filter(|n| is_history(n));
        let devices = about.filter_map(|n| n.place.as_ref().map(|place| &place.device));
        for device in devices.collect::<BTreeSet<_>>() {
            let key = DEVICE_RECEIPTS.device_item(device, height, index);
            row::put(batch, DEVICE_RECEIPTS, key, &());
        }
    }
}

fn is_history(notification: &Notification) -> bool {
    !matches!(notification.fact, Fact::EventAppended { .. })
}

/// Event `index` of the block at `height`.
pub fn event(
    store: &dyn KvView,
    height: u64,
    index: u32,
) -> Result<Option<EventRecord>, StateError> {
    item(store, EVENTS, height, index)
}

/// The event of a device with the sequence number `sequence`.
pub fn device_event(
    store: &dyn KvView,
    device: &Id,
    sequence: u64,
) -> Result<Option<DeviceEventEntry>, StateError> {
    let key = DEVICE_EVENTS.device_sequence(device, sequence);
    let place: Option<(u64, u32)> = row::get(store, DEVICE_EVENTS, &key)?;
    place.map(|place| entry(store, place)).transpose()
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
    found
        .take(limit)
        .map(|found| {
            let (key, place) = found?;
            row::read_key(DEVICE_EVENTS, &key, last_number(&key))?;
            entry(store, place)
        })
        .collect()
}

fn entry(store: &dyn KvView, (height, index): (u64, u32)) -> Result<DeviceEventEntry, StateError> {
    let missing = || StateError::Missing {
        what: format!("the event {height}.{index}, which an index names,"),
    };
    Ok(DeviceEventEntry {
        height,
        index,
        record: event(store, height, index)?.ok_or_else(missing)?,
    })
}

/// Up to `limit` receipts about a device, beyond the cursor (height, index) if one is given: above
/// it forwards, below it backwards. See [`DeviceReceipt`]; the events that it emitted are under
/// [`device_events`].
pub fn device_history(
    store: &dyn KvView,
    device: &Id,
    cursor: Option<(u64, u32)>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<DeviceReceipt>, StateError> {
    let prefix = DEVICE_RECEIPTS.device(device);
    let cursor = cursor.map(|(height, index)| DEVICE_RECEIPTS.device_item(device, height, index));
    let range = match direction {
        Direction::Forward => row::after(prefix, cursor),
        Direction::Backward => row::before(prefix, cursor),
    };
    let found = row::scan::<()>(store, DEVICE_RECEIPTS, range, direction)?;
    found
        .take(limit)
        .map(|found| {
            let (key, ()) = found?;
            let (height, index) = row::read_key(DEVICE_RECEIPTS, &key, last_item(&key))?;
            device_receipt(store, device, height, index)
        })
        .collect()
}

fn device_receipt(
    store: &dyn KvView,
    device: &Id,
    height: u64,
    index: u32,
) -> Result<DeviceReceipt, StateError> {
    let missing = || StateError::Missing {
        what: format!("the receipt {height}.{index}, which an index names,"),
    };
    let mut receipt = receipt(store, height, index)?.ok_or_else(missing)?;
    receipt.notifications.retain(|notification| {
        let place = notification.place.as_ref();
        place.is_some_and(|place| place.device == *device) && is_history(notification)
    });
    Ok(DeviceReceipt {
        height,
        index,
        receipt,
    })
}
