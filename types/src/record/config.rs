//! Records of configuration.

use serde::{Deserialize, Serialize};

use crate::{ConfigTarget, Hash, Id};

/// The desired document of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DesiredConfig {
    pub target: ConfigTarget,
    pub document: String,
    /// Number of the version, counted up from 1.
    pub version: u64,
    pub author: Id,
    pub height: u64,
}

/// The last report of a device about its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReportedConfig {
    pub device: Id,
    /// blake3 of the effective document.
    pub document: Hash,
    pub applied: bool,
    pub detail: String,
    pub attested: bool,
    pub height: u64,
}
