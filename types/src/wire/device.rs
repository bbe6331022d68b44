use serde::{Deserialize, Serialize};

use crate::record::ReportedConfig;
use crate::{
    ConfigTarget, DeviceStatus, EventCursor, EventRecord, Hash, Id, Notification, PublicKey, Scope,
    Tag, Version,
};

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

/// One thing that happened to a device: a change of the ledger, or an event that it emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimelineEntry {
    /// Block time, Unix ms.
    pub time_ms: u64,
    pub height: u64,
    /// The account that signed, of an event its gateway; null when the block's time alone was the
    /// cause.
    pub author: Option<Id>,
    /// The key that signed; null beside an event, and when the block's time alone was the cause.
    pub key: Option<PublicKey>,
    /// Null beside an event, and when the block's time alone was the cause.
    pub transaction: Option<Hash>,
    /// What changed; empty beside an event.
    pub notifications: Vec<Notification>,
    pub event: Option<EventRecord>,
    /// The path of the proof. An older node has null where the block's time alone was the cause.
    pub proof: Option<String>,
}

/// A device with what it runs, reports and lacks: a row of the report of devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceSummary {
    pub device: Id,
    pub model: String,
    pub hardware_class: String,
    pub district: Scope,
    pub gateway: Option<Id>,
    pub owner: Id,
    pub status: DeviceStatus,
    pub tags: Vec<Tag>,
    pub version: Option<Version>,
    pub release: Option<Id>,
    pub drifted: bool,
    /// The rollout at work on it.
    pub rollout: Option<Id>,
    /// blake3 of the configuration document that it last reported.
    pub config: Option<Hash>,
    pub config_applied: bool,
    /// The kinds of its active alarms.
    pub alarms: Vec<String>,
    /// Block time of its last event or report, Unix ms; null before the first.
    pub last_seen_ms: Option<u64>,
    pub registered_height: u64,
}

/// A device that runs a release, or has a configuration document: since when, by whose decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Exposure {
    pub device: Id,
    pub model: String,
    pub district: Scope,
    pub gateway: Option<Id>,
    pub owner: Id,
    pub status: DeviceStatus,
    pub version: Option<Version>,
    /// Runs something else than its confirmed release.
    pub drifted: bool,
    /// Block time at which it was confirmed or reported, Unix ms; null if the ledger's state keeps
    /// no more of it.
    pub since_ms: Option<u64>,
    pub since_height: Option<u64>,
    /// The report was signed by the Thing's own key.
    pub attested: Option<bool>,
    /// The rollout that brought the release.
    pub rollout: Option<Id>,
    /// Decisions of people: authors and approvers of release and rollout, or authors of documents.
    pub decisions: Vec<Decision>,
    /// Older decisions count as well, and were not read: the release or rollout changed more than
    /// 16,384 times since.
    pub decisions_cut: bool,
    /// The paths of proofs of the records in this row.
    pub proofs: Vec<String>,
}

/// The part of a person in what a device runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Decision {
    ReleasePublished {
        by: Id,
        time_ms: u64,
    },
    ReleaseApproved {
        by: Id,
        time_ms: u64,
    },
    RolloutPlanned {
        by: Id,
        time_ms: u64,
    },
    RolloutApproved {
        by: Id,
        time_ms: u64,
    },
    /// Set one of the documents of which that of the device is made.
    ConfigSet {
        by: Id,
        target: ConfigTarget,
        version: u64,
        height: u64,
    },
}
