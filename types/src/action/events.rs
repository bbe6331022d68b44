use serde::{Deserialize, Serialize};

use crate::{Id, Severity, Signature};

/// Actions on events and alarms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EventsAction {
    /// Appends events of devices, oldest first. The sender is their gateway.
    Append {
        events: Vec<DeviceEvent>,
    },
    Acknowledge {
        alarm: AlarmId,
        comment: String,
    },
    /// Clears an alarm whose Thing can't do it any more.
    Clear {
        alarm: AlarmId,
        comment: String,
    },
}

/// An event that a Thing emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEvent {
    pub device: Id,
    /// Counts up by one per device, from 1; a missing number is recorded as a gap.
    pub sequence: u64,
    /// Unix time in ms by the clock of the Thing, or of the gateway where it has none.
    pub time_ms: u64,
    /// A kind of the street-lighting vocabulary, or a free one with the prefix `x-`.
    pub kind: String,
    pub severity: Severity,
    pub alarm: AlarmChange,
    /// Free text or JSON.
    pub data: String,
    /// The signature of the Thing's key over [`DeviceEvent::message`], which docs/formats.md
    /// describes.
    pub signature: Option<Signature>,
}

/// The effect of an event on the alarm of its device and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AlarmChange {
    None,
    Raise,
    Clear,
}

/// The name of an alarm: the event that raised it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlarmId {
    pub device: Id,
    pub sequence: u64,
}
