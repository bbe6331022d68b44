use serde::{Deserialize, Serialize};

use crate::{Hash, Id, RolloutPlan, Scope};

#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
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
    /// The counts when an error pause was last ended: the gate looks at what came after.
    pub counts_at_resume: RolloutCounts,
    /// Over which its operators and approvers must have their roles.
    pub districts: Vec<Scope>,
    /// Where the expansion of the selection stands: the last device looked at.
    pub cursor: Option<Id>,
    /// Every selected device has been looked at.
    pub expanded: bool,
    /// Where the recall of a stopping rollout stands: the last deployment looked at.
    pub sweep: Option<Id>,
    /// Every deployment that can be cancelled has been.
    pub swept: bool,
    pub planned_height: u64,
    pub started_ms: Option<u64>,
    /// The block in which `status` last changed.
    pub status_height: u64,
}

/// What blocks have still to do for a rollout that has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutWork {
    /// It waits for reports, timers or people.
    Nothing,
    /// Devices are still to be assigned.
    Expand,
    /// Deployments are still to be cancelled.
    Sweep,
}

/// Why a listed or matching device gets no deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SkipReason {
    /// Suspended or decommissioned.
    NotActive,
    NoGateway,
    /// The release does not name its hardware class.
    HardwareClass,
    /// Another rollout is at work on it.
    Busy,
    /// The release's security counter is below the device's floor.
    SecurityCounter,
    /// The running version is unknown or below the lowest one that the release replaces.
    RunningVersion,
    /// None of the releases it depends on was confirmed.
    Dependency,
    ReleaseExpired,
}

/// The state of one device's part in a rollout; `contracts::rollouts::transitions` says which may
/// follow which. The derived order is that of index keys and has no meaning: new states are
/// appended. [`progress`](DeploymentState::progress) compares.
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
    /// Nothing follows this state.
    pub fn is_end(self) -> bool {
        use DeploymentState::*;
        match self {
            Assigned | Offered | WaitingConsent | Postponed | WaitingWindow | Downloading
            | Downloaded | Installing | Staged | Trial => false,
            Confirmed | Reverted | Failed | Rejected | TimedOut | Cancelled | Superseded
            | Removed | NotNeeded => true,
        }
    }

    /// The Thing writes or boots the image, or the deployment has ended: it is too late to cancel
    /// or postpone.
    pub fn is_past_return(self) -> bool {
        use DeploymentState::*;
        self.is_end() || matches!(self, Installing | Staged | Trial)
    }

    /// The states from the first offer to success, each after those before it. A deployment that
    /// ended otherwise has no place there.
    pub fn progress(self) -> Option<usize> {
        use DeploymentState::*;
        let path = [
            Assigned,
            Offered,
            Downloading,
            Downloaded,
            Installing,
            Staged,
            Trial,
            Confirmed,
        ];
        path.iter().position(|state| *state == self)
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
    pub assigned_height: u64,
    /// Oldest first; the oldest but the first are dropped beyond 32. The blocks have all.
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
