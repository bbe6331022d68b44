use serde::{Deserialize, Serialize};

use crate::record::ReportedConfig;
use crate::{EventCursor, EventRecord, Hash};

/// A recorded event, and where it is proven: `/v1/proofs/events/{height}/{index}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventEntry {
    pub height: u64,
    pub index: u32,
    pub record: EventRecord,
}

/// Events of a device, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceEvents {
    /// The sequence numbers that have come, and those that are missing.
    pub cursor: EventCursor,
    pub items: Vec<EventEntry>,
    /// The `after` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Desired and reported configuration of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceConfig {
    /// The merged document, JSON text.
    pub effective: String,
    /// blake3 of `effective`; equal to the reported one when the device follows.
    pub hash: Hash,
    pub reported: Option<ReportedConfig>,
    /// True if the device reported that it applied the effective document.
    pub in_sync: bool,
}
