use serde::{Deserialize, Serialize};

use crate::{Hash, Id, Scope, Signature};

/// Desired and reported configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConfigAction {
    /// Replaces the document of one target; the more specific target overrides the less specific
    /// one.
    SetDesired {
        target: ConfigTarget,
        /// JSON object text without fractions.
        document: String,
        /// The version that this one follows, 0 for the first: two writers can't overwrite each
        /// other unseen.
        replaces_version: u64,
    },
    Report {
        reports: Vec<ConfigReport>,
    },
}

/// The devices that a desired document is for. A more specific target overrides a less specific
/// one: fleet, model, district, device.
// The derived order is that of index keys and has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConfigTarget {
    Fleet,
    Model { model: String },
    District { district: Scope },
    Device { device: Id },
}

/// A Thing's report of its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigReport {
    pub device: Id,
    /// blake3 of the effective document that the Thing was given.
    pub document: Hash,
    pub applied: bool,
    /// The reason if it was not applied.
    pub detail: String,
    /// Begins at 1 and rises with each report of this device.
    pub counter: u64,
    /// The signature of the Thing's key over [`ConfigReport::message`], which docs/formats.md
    /// describes.
    pub signature: Option<Signature>,
}
