//! Allowances: how much an account may add to the state in a day.

use serde::{Deserialize, Serialize};

use crate::limits::NUMBER_MAX;

/// The new records, and the bytes of keys and values, that an account may add to the state within
/// a day of block time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Allowance {
    pub records: u64,
    pub bytes: u64,
}

/// The allowances by kind of account.
///
/// All records stay on every validator, with about 120 bytes each in memory. So the defaults let a
/// stolen key cost a validator at most a few MB of memory in each day until somebody notices, and
/// let honest accounts do what a day brings:
///
/// - A user registers some 8,000 devices, at up to six records each.
/// - A gateway has 1,000 Things that each report for the first time (two records), raise five
///   alarms and replace a key, on one day.
/// - A node relays 10,000 registrations of IOTRegistry with one alias each.
///
/// Who imports more raises the policy for that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Allowances {
    pub users: Allowance,
    pub gateways: Allowance,
    pub nodes: Allowance,
}

const MIB: u64 = 1024 * 1024;

impl Default for Allowances {
    fn default() -> Self {
        let allowance = |records, mib| Allowance {
            records,
            bytes: mib * MIB,
        };
        Self {
            users: allowance(50_000, 32),
            gateways: allowance(10_000, 8),
            nodes: allowance(20_000, 16),
        }
    }
}

/// The smallest allowance: with less, nobody could propose the policy that raises it again.
pub const ALLOWANCE_MIN: Allowance = Allowance {
    records: 100,
    bytes: MIB,
};

impl Allowances {
    /// No bound in practice, for programs that measure and test.
    pub const UNBOUNDED: Self = {
        let allowance = Allowance {
            records: NUMBER_MAX,
            bytes: NUMBER_MAX,
        };
        Self {
            users: allowance,
            gateways: allowance,
            nodes: allowance,
        }
    };

    /// The name of the first allowance that is not from [`ALLOWANCE_MIN`] to 2^53 - 1.
    pub fn out_of_range(&self) -> Option<&'static str> {
        let Self {
            users,
            gateways,
            nodes,
        } = *self;
        let named = [
            ("allowances.users", users),
            ("allowances.gateways", gateways),
            ("allowances.nodes", nodes),
        ];
        let fits = |Allowance { records, bytes }: Allowance| {
            (ALLOWANCE_MIN.records..=NUMBER_MAX).contains(&records)
                && (ALLOWANCE_MIN.bytes..=NUMBER_MAX).contains(&bytes)
        };
        let (name, _) = named.into_iter().find(|(_, allowance)| !fits(*allowance))?;
        Some(name)
    }
}

/// What an account has used of its allowance, on the last day on which it added to the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AllowanceUse {
    /// Number of the day since 1970, of block time.
    pub day: u64,
    pub records: u64,
    pub bytes: u64,
}
