//! State keys of events and alarms.

use lamplighter_state::Key;
use lamplighter_types::{Alarm, AlarmId, AlarmSlot, EventCursor, Id};

use crate::tables::Table;

pub fn cursor(device: &Id) -> Key<EventCursor> {
    Key::table(Table::EventCursor as u8).id(device)
}

/// All alarms of a device, the oldest event first.
pub fn alarms(device: &Id) -> Key<Alarm> {
    Key::table(Table::Alarm as u8).id(device)
}

pub fn alarm(alarm: &AlarmId) -> Key<Alarm> {
    alarms(&alarm.device).number(alarm.sequence)
}

/// Alarms that are active or not acknowledged.
pub fn open_alarms() -> Key<AlarmId> {
    Key::table(Table::OpenAlarm as u8)
}

pub fn open_alarm(alarm: &AlarmId) -> Key<AlarmId> {
    open_alarms().id(&alarm.device).number(alarm.sequence)
}

/// The state of the alarm of one kind on a device.
pub fn slot(device: &Id, kind: &str) -> Key<AlarmSlot> {
    Key::table(Table::AlarmSlot as u8).id(device).text(kind)
}
