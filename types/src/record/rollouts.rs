use serde::{Deserialize, Serialize};

use crate::{Hash, Id, RolloutPlan};

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutStatus {
    PendingApproval,
    Approved,
    Running,
    /// By an operator.
    Paused,
    /// By the contract, because too many deployments failed.
    PausedByErrors,
    Stopping,
    Stopped,
    Finished,
}

/// How many deployments are in each state that matters to a gate.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Default)]
pub struct RolloutCounts {
    pub assigned: u64,
    /// Offered up to trial.
    pub active: u64,
    pub confirmed: u64,
    pub failed: u64,
    /// Cancelled, superseded, removed, not needed.
    pub other: u64,
    /// Devices that were listed or matched and can't take the release.
    pub skipped: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rollout {
    pub plan: RolloutPlan,
    /// Digest of the plan.
    pub plan_digest: Hash,
    pub status: RolloutStatus,
    pub author: Id,
    pub approvals: Vec<Id>,
    pub reason: String,
    pub counts: RolloutCounts,
    /// Where the expansion of the selection stands: the last device looked at.
    pub cursor: Option<Id>,
    /// Every selected device has been looked at.
    pub expanded: bool,
    pub planned_height: u64,
    pub started_ms: Option<u64>,
}

/// One device's part in a rollout (UPDATES.md has the transitions).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeploymentState {
    Assigned,
    Offered,
    WaitingConsent,
    Postponed,
    WaitingWindow,
    Downloading,
    Downloaded,
    Installing,
    Staged,
    Trial,
    Confirmed,
    Reverted,
    Failed,
    Rejected,
    TimedOut,
    Cancelled,
    Superseded,
    Removed,
    NotNeeded,
}

impl DeploymentState {
    /// Nothing follows.
    pub fn is_end(self) -> bool {
        self >= DeploymentState::Confirmed
    }

    /// From here on the Thing writes or boots the image: too late to cancel or postpone.
    pub fn is_past_return(self) -> bool {
        self >= DeploymentState::Installing
    }

    /// Ended without the release running where it should.
    pub fn is_failure(self) -> bool {
        use DeploymentState::*;
        matches!(self, Reverted | Failed | Rejected | TimedOut)
    }
}

/// One transition of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeploymentStep {
    pub to: DeploymentState,
    pub height: u64,
    pub time_ms: u64,
    /// Who reported it; `None`: the contract itself.
    pub by: Option<Id>,
    /// Signed by the Thing's own key.
    pub attested: bool,
    pub code: u32,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deployment {
    pub rollout: Id,
    pub device: Id,
    pub release: Id,
    pub state: DeploymentState,
    pub steps: Vec<DeploymentStep>,
    pub retries: u8,
    pub postponed_count: u32,
    pub postponed_until_ms: Option<u64>,
    /// The state to which a postponed deployment returns.
    pub postponed_from: Option<DeploymentState>,
    pub first_offered_ms: Option<u64>,
    /// When the running timer is up.
    pub deadline_ms: Option<u64>,
}
