//! Records of the groups of a rollout.

use serde::{Deserialize, Serialize};

use crate::{Id, RolloutCounts};

/// The progress of the groups of a rollout; its plan is a record of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutGroups {
    pub rollout: Id,
    /// The groups in the order of the plan.
    pub groups: Vec<GroupRecord>,
    /// Number of groups that have opened.
    pub opened: u32,
    /// Number of devices that began to match and wait to be assigned.
    pub late: u64,
    /// Number of deployments that a stop could not recall: they were installing.
    pub too_late: u64,
    /// Unix time in ms at which a soak or the rollout ends by itself.
    pub due_ms: Option<u64>,
}

/// The progress of one group. It has the deployments that were assigned after `opened_height` and
/// not after that of the next group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupRecord {
    pub status: GroupStatus,
    pub counts: GroupCounts,
    /// The counts at the end of the last pause by errors: limits look at what came after.
    pub counts_at_resume: GroupCounts,
    pub opened_height: Option<u64>,
    /// Block time in Unix ms.
    pub opened_ms: Option<u64>,
    /// Block time in Unix ms since which the group has been good enough.
    pub soaking_since_ms: Option<u64>,
}

/// Numbers of deployments of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[derive(Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupCounts {
    pub deployments: RolloutCounts,
    /// The failed ones that were silent for too long.
    pub timed_out: u64,
}

/// The state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GroupStatus {
    /// Not yet open.
    Waiting,
    /// Open, and not yet good enough.
    Running,
    /// Good enough, but not for long enough.
    Soaking,
    /// Good enough for long enough; a person opens the next group.
    Ready,
    Passed,
    /// It ended without being good enough, so the next group never opens.
    Failed,
}

/// The search for the devices that run a revoked release, a bounded number in each block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevocationSweep {
    pub release: Id,
    /// The last device looked at.
    pub after: Option<Id>,
    /// Number of devices found so far.
    pub found: u64,
}
