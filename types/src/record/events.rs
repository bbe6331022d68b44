use serde::{Deserialize, Serialize};

use crate::{AlarmId, DeviceEvent, Id};

/// The perceived severity of ITU-T X.733. Its order there (critical before major before minor before
/// warning; indeterminate has none) is not that of the encoding, to which new variants are
/// appended, so this type has no order.
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

/// A device event as the ledger recorded it. Not in the state tree: a leaf of its block's
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

/// Sequence numbers that never came, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventGap {
    pub first: u64,
    pub last: u64,
}

/// Where the events of one device stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventCursor {
    /// The highest sequence number recorded.
    pub highest: u64,
    pub count: u64,
    /// Ascending.
    pub gaps: Vec<EventGap>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Acknowledgement {
    pub by: Id,
    pub comment: String,
    pub time_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Alarm {
    pub alarm: AlarmId,
    pub kind: String,
    pub severity: Severity,
    pub raised_ms: u64,
    /// When it was cleared; `None` while it is active.
    pub cleared_ms: Option<u64>,
    /// Who cleared it by hand.
    pub cleared_by: Option<Id>,
    pub acknowledged: Option<Acknowledgement>,
}

/// Where the alarm of one kind stands on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmSlot {
    /// The highest event that raised or cleared: earlier ones that come late change nothing.
    pub changed: u64,
    /// The event that raised the active alarm.
    pub active: Option<u64>,
}
