use serde::{Deserialize, Serialize};

use crate::{Id, Severity, Signature};

/// Events and alarms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EventsAction {
    /// By the devices' gateway, oldest first.
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

/// What a Thing emits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEvent {
    pub device: Id,
    /// From 1, up by one per device; a missing number is recorded as a gap.
    pub sequence: u64,
    /// Unix time in ms by the clock of the Thing, or of the gateway where it has none.
    pub time_ms: u64,
    /// From the vocabulary of street lighting, or free with the prefix `x-`.
    pub kind: String,
    pub severity: Severity,
    pub alarm: AlarmChange,
    /// Free text or JSON.
    pub data: String,
    /// By the Thing's key over [`DeviceEvent::message`], which docs/formats.md describes.
    pub signature: Option<Signature>,
}

/// What an event does to the alarm of its device and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AlarmChange {
    None,
    Raise,
    Clear,
}

/// An alarm is named by the event that raised it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlarmId {
    pub device: Id,
    pub sequence: u64,
}
