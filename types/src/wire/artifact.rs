use serde::{Deserialize, Serialize};

use crate::Hash;

/// The announcement of an upload. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewArtifact {
    pub digest: Hash,
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 268435456))]
    pub size_bytes: u64,
}

/// The progress of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Upload {
    pub digest: Hash,
    /// Bytes that are on disk: the next piece begins here.
    pub offset: u64,
    pub complete: bool,
}

/// An upload that waits for more pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnfinishedUpload {
    pub digest: Hash,
    /// The size that was announced.
    pub size_bytes: u64,
    /// Bytes that are on disk: the next piece begins here.
    pub offset: u64,
    /// When the node drops it unless a piece comes before, Unix ms by the node's clock.
    pub expires_ms: u64,
}

/// The unfinished uploads of an account at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnfinishedUploads {
    pub items: Vec<UnfinishedUpload>,
}
