//! Records of devices.

use serde::{Deserialize, Serialize};

use crate::limits::{ID_BYTES_MAX, SMALL_LIST_MAX, TAG_VALUE_BYTES_MAX};
use crate::validate::{self, FieldError};
use crate::{Hash, Id, PublicKey, Scope, Version};

/// A tag of a device: a name with a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tag {
    pub name: String,
    pub value: String,
}

impl Tag {
    /// Checks the tags of one device: their number, their texts, and that no name occurs twice.
    ///
    /// # Errors
    /// The first fault.
    pub fn check_all(tags: &[Self]) -> Result<(), FieldError> {
        validate::at_most("tags", tags, SMALL_LIST_MAX)?;
        for Self { name, value } in tags {
            validate::name("tag", name, ID_BYTES_MAX)?;
            validate::text("tag", value, TAG_VALUE_BYTES_MAX)?;
        }
        validate::distinct("tags", tags.iter().map(|tag| &tag.name))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeviceStatus {
    Active,
    Suspended,
    Decommissioned,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    pub device: Id,
    /// The organization that has the title.
    pub owner: Id,
    /// The organization to which the title is offered.
    pub offered_to: Option<Id>,
    pub model: String,
    pub hardware_class: String,
    pub district: Scope,
    pub gateway: Option<Id>,
    pub key: Option<PublicKey>,
    pub tags: Vec<Tag>,
    pub status: DeviceStatus,
    pub registered_height: u64,
}

/// The running firmware of a device and the counters that it has used. It is a record of its own,
/// apart from [`Device`], because it changes often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceState {
    pub version: Option<Version>,
    /// The confirmed release, if it is on this ledger.
    pub release: Option<Id>,
    /// blake3 of the active slot as last reported.
    pub digest: Option<Hash>,
    /// No release below this is installed.
    pub security_counter: u64,
    /// The highest report counter used; the next report must be above it.
    pub report_counter: u64,
    /// The running digest is not that of the last confirmed release.
    pub drifted: bool,
    /// The rollout whose deployment is active on this device.
    pub active_rollout: Option<Id>,
    /// Releases confirmed so far, newest last, at most 32.
    pub confirmed: Vec<Id>,
    /// Number of times that the device has rotated its key.
    pub key_rotations: u32,
}

/// A registrant of IOTRegistry that acts for an organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistrantLink {
    pub organization: Id,
}
