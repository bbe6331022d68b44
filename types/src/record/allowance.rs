//! The measure of what an account may add to the state.

use serde::{Deserialize, Serialize};

/// The new state records that accounts may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Allowances {
    /// New state records of one account in a day.
    pub records_per_day: u32,
}

impl Default for Allowances {
    fn default() -> Self {
        Self {
            records_per_day: 100_000,
        }
    }
}
