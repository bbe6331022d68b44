//! Records of releases and artifacts.

use serde::{Deserialize, Serialize};

use crate::record::Approval;
use crate::{Hash, Id, ReleaseManifest, SignedRelease};

#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ReleaseStatus {
    /// Published; approvals are missing.
    Signed,
    Released,
    /// Gets no new rollout.
    Deprecated,
    Revoked,
}

/// A release with its status and approvals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Release {
    pub manifest: ReleaseManifest,
    pub signed: SignedRelease,
    /// Digest of the manifest's bytes.
    pub manifest_digest: Hash,
    pub status: ReleaseStatus,
    /// The account that published it.
    pub author: Id,
    /// The organization of the author, to whose limits it counts while it is not approved.
    pub organization: Id,
    pub approvals: Vec<Approval>,
    /// The reason if it was deprecated or revoked.
    pub reason: String,
    pub published_height: u64,
    /// Block time in Unix ms.
    pub published_ms: u64,
    /// Block time at which enough people had approved it.
    pub released_ms: Option<u64>,
    /// Block time at which it was revoked.
    pub ended_ms: Option<u64>,
}

/// An artifact of one or more releases, and the validators that hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Artifact {
    pub digest: Hash,
    pub size_bytes: u64,
    /// Number of releases that name this digest and size.
    pub releases: u32,
    /// Node ids, ascending.
    pub holders: Vec<u64>,
}
