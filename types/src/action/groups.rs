//! Plans of rollouts in groups: the parts that are approved together, by one digest.

use serde::{Deserialize, Serialize};

use crate::{RolloutPlan, Selection};

/// The plan of a rollout whose devices follow each other in groups. Its digest is what approvers
/// approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupedPlan {
    /// The release, the devices of all groups, and the rules that count in each group:
    /// `error_percent_max` and `error_sample_min` count its ended deployments.
    pub base: RolloutPlan,
    /// The groups in the order in which they open; the first one opens at the start.
    pub groups: Vec<Group>,
    pub limits: PauseLimits,
    pub retry: RetryPolicy,
    /// Devices that begin to match after the start enter the group that opened last, unless a
    /// later one has them or it is one of named devices; and the rollout goes on until it is
    /// cancelled or its stop deadline has come.
    pub continuous: bool,
    /// Unix time in ms of the stop deadline: what is not yet installing is cancelled then.
    pub stop_ms: Option<u64>,
}

/// A group of a rollout: its devices, and what has to be true before the next group opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    pub members: GroupMembers,
    pub gate: GroupGate,
}

/// The devices of a group, among those of the rollout that no earlier group has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GroupMembers {
    /// Named devices (canaries), which late ones never join, or those that match a second filter.
    Selected { selection: Selection },
    /// The first devices that need the release and can install it, so many.
    Count { count: u32 },
    /// A share of all devices of the rollout, chosen by a digest of rollout and device. Shares of
    /// several groups do not overlap.
    Percent { percent: u8 },
    /// All that are left.
    Rest,
}

/// What has to be true of a group before the next one opens. A group that ends without it has
/// failed, and the next one never opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupGate {
    /// The share of the group's devices that must have confirmed the release, in percent. Those
    /// that are still at work count as well, those that ended without success or failure do not:
    /// a device that runs the release already proves nothing.
    pub success_percent_min: u8,
    /// Number of deployments that must have ended with a success or a failure.
    pub sample_min: u32,
    /// Time in ms for which both must be true without a break.
    pub soak_ms: u64,
    /// A person opens the next group.
    pub next_by_hand: bool,
}

/// Limits on the failures of one group above which the rollout pauses, besides
/// `error_percent_max`. When no deployment of the group is left, shares count whatever the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PauseLimits {
    /// The number of failed deployments; there is no limit if it is absent.
    pub error_count_max: Option<u32>,
    /// The share of ended deployments that timed out, in percent, from `error_sample_min` ended
    /// ones on.
    pub silence_percent_max: Option<u8>,
}

/// How failures lead to another attempt, besides `retries_max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RetryPolicy {
    /// Time in ms before the first retry. It doubles with each further one.
    pub backoff_ms: u64,
    /// The result codes that are retried; all if there is none.
    pub codes: Vec<u32>,
}
