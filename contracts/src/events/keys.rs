//! State keys of events and alarms.

use lamplighter_state::Key;
use lamplighter_types::{Alarm, AlarmId, DeviceAlarms, EventCursor, Id};

use crate::tables::Table;

pub fn cursor(device: &Id) -> Key<EventCursor> {
    Key::table(Table::EventCursor as u8).id(device)
}

/// The open alarms of a device, the oldest event first.
pub fn alarms(device: &Id) -> Key<Alarm> {
    Key::table(Table::Alarm as u8).id(device)
}

pub fn alarm(alarm: &AlarmId) -> Key<Alarm> {
    alarms(&alarm.device).number(alarm.sequence)
}

/// All open alarms, by device and event.
pub fn open_alarms() -> Key<Alarm> {
    Key::table(Table::Alarm as u8)
}

/// The kinds of alarms of a device, and which are active.
pub fn device_alarms(device: &Id) -> Key<DeviceAlarms> {
    Key::table(Table::DeviceAlarms as u8).id(device)
}
