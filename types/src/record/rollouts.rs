//! Records of rollouts and deployments.

use serde::{Deserialize, Serialize};

use crate::record::Approval;
use crate::{Hash, Id, RolloutPlan, Scope};

#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutStatus {
    PendingApproval,
    Approved,
    Running,
    /// Paused by an operator.
    Paused,
    /// Paused by the contract, because too many deployments failed.
    PausedByErrors,
    Stopping,
    Stopped,
    Finished,
}

/// The numbers of deployments in the states that matter to the error gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Default)]
pub struct RolloutCounts {
    pub assigned: u64,
    /// From offered to trial.
    pub active: u64,
    pub confirmed: u64,
    pub failed: u64,
    /// Cancelled, superseded, removed, not needed.
    pub other: u64,
    /// Devices that were listed or matched and can't install the release.
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
    /// The organization of the author, to whose limits it counts until it begins.
    pub organization: Id,
    pub approvals: Vec<Approval>,
    pub reason: String,
    pub counts: RolloutCounts,
    /// The counts at the end of the last pause by errors: the gate looks at what came after.
    pub counts_at_resume: RolloutCounts,
    /// The districts over which its operators and approvers must have their roles.
    pub districts: Vec<Scope>,
    /// Place of the expansion of the selection: the last device looked at.
    pub cursor: Option<Id>,
    /// Every selected device has been looked at.
    pub expanded: bool,
    /// Place of the recall of a stopping rollout: the last deployment looked at.
    pub sweep: Option<Id>,
    /// Every deployment that can be cancelled has been cancelled.
    pub swept: bool,
    pub planned_height: u64,
    /// Block time in Unix ms.
    pub planned_ms: u64,
    pub started_ms: Option<u64>,
    /// The block in which `status` last changed.
    pub status_height: u64,
}

/// The work that blocks have left for a rollout that has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutWork {
    /// None: the rollout waits for reports, timers or people.
    Nothing,
    /// Devices must still be assigned.
    Expand,
    /// Deployments must still be cancelled.
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

/// The state of one device's part in a rollout.
// The derived order is that of set keys and has no meaning, because new states are appended:
// `progress` compares. The table of transitions is in `contracts::rollouts::transitions`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeploymentState {
    Assigned,
    Offered,
    /// Downloaded; somebody has to consent first.
    WaitingConsent,
    Postponed,
    /// Downloaded; no window is open.
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
    /// Tells whether the deployment has ended.
    pub fn is_end(self) -> bool {
        use DeploymentState::*;
        match self {
            Assigned | Offered | WaitingConsent | Postponed | WaitingWindow | Downloading
            | Downloaded | Installing | Staged | Trial => false,
            Confirmed | Reverted | Failed | Rejected | TimedOut | Cancelled | Superseded
            | Removed | NotNeeded => true,
        }
    }

    /// Tells whether it is too late to cancel or postpone: the Thing writes or boots the image, or
    /// the deployment has ended.
    pub fn is_past_return(self) -> bool {
        use DeploymentState::*;
        self.is_end() || matches!(self, Installing | Staged | Trial)
    }

    /// The place of the state on the way from assigned to confirmed, which orders the states there.
    /// States beside that way have none.
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

    /// Tells whether the deployment ended without the release running where it should.
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
    /// The account that reported it; `None` if it was the contract itself.
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
    /// The steps, oldest first. Beyond 32 the oldest but the first are dropped; the blocks have
    /// all.
    pub steps: Vec<DeploymentStep>,
    pub retries: u8,
    pub postponed_count: u32,
    pub postponed_until_ms: Option<u64>,
    /// The state to which a postponed deployment returns.
    pub postponed_from: Option<DeploymentState>,
    pub first_offered_ms: Option<u64>,
    /// Unix time in ms when the running timer expires.
    pub deadline_ms: Option<u64>,
}
