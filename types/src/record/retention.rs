//! The times for which bytes are kept that nobody installs any more.

use serde::{Deserialize, Serialize};

/// How long artifacts are kept after their releases have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Retention {
    /// Milliseconds from the end of a release (revoked or expired) to the collection of its bytes.
    pub ended_release_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            ended_release_ms: 30 * 24 * 3600 * 1000,
        }
    }
}
