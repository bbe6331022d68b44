//! Queries of event cursors and alarms.

use lamplighter_state::StateError;
use lamplighter_types::limits::ALARMS_PER_DEVICE_MAX;
use lamplighter_types::{Alarm, AlarmId, EventCursor, Id};

use super::{cursor as numbers, keys};
use crate::Reader;

/// The sequence numbers of a device that have come.
pub fn cursor(reader: &impl Reader, device: &Id) -> Result<EventCursor, StateError> {
    Ok(reader
        .get(&keys::cursor(device))?
        .unwrap_or_else(numbers::empty))
}

/// An alarm, if it is open.
pub fn alarm(reader: &impl Reader, alarm: &AlarmId) -> Result<Option<Alarm>, StateError> {
    reader.get(&keys::alarm(alarm))
}

/// The open alarms of a device, the oldest event first, after the one that event `after` raised.
pub fn alarms(
    reader: &impl Reader,
    device: &Id,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<Alarm>, StateError> {
    let after = after.map(|sequence| {
        keys::alarm(&AlarmId {
            device: device.clone(),
            sequence,
        })
    });
    reader.page(&keys::alarms(device), after.as_ref(), limit)
}

/// The open alarms of each of some devices, in the order of the devices.
pub fn alarms_of(reader: &impl Reader, devices: &[Id]) -> Result<Vec<Vec<Alarm>>, StateError> {
    let keys: Vec<_> = devices.iter().map(keys::device_alarms).collect();
    let found = reader.get_many(&keys)?.into_iter().zip(devices);
    let open = found.map(|(known, device)| match known {
        Some(known) if known.are_open() => alarms(reader, device, None, ALARMS_PER_DEVICE_MAX),
        _ => Ok(Vec::new()),
    });
    open.collect()
}

/// Alarms that are active or not acknowledged, by device and event, after the alarm `after`.
pub fn open_alarms(
    reader: &impl Reader,
    after: Option<&AlarmId>,
    limit: usize,
) -> Result<Vec<Alarm>, StateError> {
    let after = after.map(keys::alarm);
    reader.page(&keys::open_alarms(), after.as_ref(), limit)
}
