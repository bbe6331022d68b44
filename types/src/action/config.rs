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

/// The addressee of a desired document. The derived order is that of index keys and has no meaning;
/// `config::read` has the order in which documents override each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConfigTarget {
    Fleet,
    Model { model: String },
    District { district: Scope },
    Device { device: Id },
}

/// What a Thing says of its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigReport {
    pub device: Id,
    /// blake3 of the effective document that the Thing was given.
    pub document: Hash,
    pub applied: bool,
    /// Why it was not applied.
    pub detail: String,
    /// From 1, above all earlier ones of this device.
    pub counter: u64,
    /// By the Thing's key over [`ConfigReport::message`], which docs/formats.md describes.
    pub signature: Option<Signature>,
}
