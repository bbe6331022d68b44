//! Records of events and alarms.

use serde::{Deserialize, Serialize};

use crate::{AlarmId, DeviceEvent, Id};

/// The perceived severity of ITU-T X.733.
// No derived order: the standard's (critical, major, minor, warning; indeterminate has no place) is
// not that of the encoding, to which new variants are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Severity {
    Critical,
    Major,
    Minor,
    Warning,
    Indeterminate,
}

/// A device event as the ledger recorded it. It is not in the state tree but a leaf of its block's
/// `event_root`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventRecord {
    pub event: DeviceEvent,
    /// The gateway that sent it.
    pub gateway: Id,
    /// Signed by the Thing's own key; otherwise the gateway vouches for it.
    pub attested: bool,
    pub received_ms: u64,
}

/// A range of sequence numbers that have not come, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventGap {
    pub first: u64,
    pub last: u64,
}

/// The sequence numbers of a device's events that have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventCursor {
    /// The highest sequence number recorded.
    pub highest: u64,
    pub count: u64,
    /// The gaps in ascending order.
    pub gaps: Vec<EventGap>,
}

/// The acknowledgement of an alarm by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Acknowledgement {
    pub by: Id,
    pub comment: String,
    pub time_ms: u64,
}

/// An alarm of a device, while it is open: active or not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Alarm {
    pub alarm: AlarmId,
    pub kind: String,
    pub severity: Severity,
    pub raised_ms: u64,
    /// Unix time in ms when it was cleared; `None` while it is active.
    pub cleared_ms: Option<u64>,
    /// The account that cleared it by hand.
    pub cleared_by: Option<Id>,
    pub acknowledged: Option<Acknowledgement>,
}

/// The alarm of one kind on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct AlarmKind {
    pub kind: String,
    /// The highest event that raised or cleared it. An earlier one that comes late changes nothing.
    pub changed: u64,
    /// The event that raised the active alarm.
    pub active: Option<u64>,
}

/// The open alarms of one device. Each has a record of its own ([`Alarm`]) until it is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct DeviceAlarms {
    /// The kinds in the order of their names, at most
    /// [`ALARM_KINDS_PER_DEVICE_MAX`](crate::limits::ALARM_KINDS_PER_DEVICE_MAX).
    pub kinds: Vec<AlarmKind>,
    /// The events that raised alarms which were cleared and not acknowledged, ascending.
    pub unacknowledged: Vec<u64>,
}

impl DeviceAlarms {
    /// True if at least one alarm is open.
    pub fn are_open(&self) -> bool {
        !self.unacknowledged.is_empty() || self.kinds.iter().any(|kind| kind.active.is_some())
    }
}
