//! The times for which things are kept that nobody decides about or installs any more.

use serde::{Deserialize, Serialize};

use crate::record::PolicyError;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// How long open releases and plans wait for people, and artifacts are kept after their releases
/// have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Retention {
    /// Milliseconds from the publication of a release until it lapses without enough approvals.
    pub open_release_ms: u64,
    /// Milliseconds from the planning of a rollout until it lapses without having been started.
    pub open_plan_ms: u64,
    /// Milliseconds from the end of a release (revoked, expired or lapsed) to the collection of its
    /// bytes, in which people can still look into them.
    pub ended_release_ms: u64,
}

impl Retention {
    /// Shortest time in ms: people must have time to read, and transactions under way must be over.
    pub const MS_MIN: u64 = 3600 * 1000;
    /// Longest time in ms: ten years, the life of the devices.
    pub const MS_MAX: u64 = 10 * 366 * DAY_MS;

    /// The times with their names.
    pub fn named(&self) -> [(&'static str, u64); 3] {
        let Self {
            open_release_ms,
            open_plan_ms,
            ended_release_ms,
        } = *self;
        [
            ("open_release_ms", open_release_ms),
            ("open_plan_ms", open_plan_ms),
            ("ended_release_ms", ended_release_ms),
        ]
    }

    /// Checks that each time is one by which a city can work.
    ///
    /// # Errors
    /// The first time out of its range.
    pub fn check(&self) -> Result<(), PolicyError> {
        for (of, got_ms) in self.named() {
            if !(Self::MS_MIN..=Self::MS_MAX).contains(&got_ms) {
                return Err(PolicyError::Retention { of, got_ms });
            }
        }
        Ok(())
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            open_release_ms: 30 * DAY_MS,
            open_plan_ms: 30 * DAY_MS,
            ended_release_ms: 30 * DAY_MS,
        }
    }
}
