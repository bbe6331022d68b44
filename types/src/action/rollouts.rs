use serde::{Deserialize, Serialize};

use crate::{
    ConsentDecision, DeploymentState, GroupedPlan, GuardedPlan, Hash, Id, Scope, Signature,
};

/// Actions on rollouts, the staged delivery of releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutsAction {
    Plan {
        plan: RolloutPlan,
    },
    /// Approves a plan, by the digest of the exact plan.
    Approve {
        rollout: Id,
        plan: Hash,
    },
    /// Takes back the sender's approval of a plan.
    WithdrawApproval {
        rollout: Id,
    },
    Start {
        rollout: Id,
    },
    Pause {
        rollout: Id,
        reason: String,
    },
    /// Resumes a paused rollout whose approvals still count. After a pause by errors this needs new
    /// approvals of the plan.
    Resume {
        rollout: Id,
    },
    /// Cancels every deployment that is not yet installing.
    Cancel {
        rollout: Id,
        reason: String,
    },
    /// Postpones one deployment, or ends its postponement.
    Postpone(Postponement),
    /// A gateway's reports, in the order in which they happened. Each is accepted or refused on its
    /// own, and the receipt names the refused ones; the transaction fails when none is accepted.
    Report {
        reports: Vec<DeploymentReport>,
    },
    /// Plans a rollout in groups.
    PlanGroups {
        plan: GroupedPlan,
    },
    /// Replaces a plan that has not begun. Its approvals end, and the sender is its author.
    Amend {
        plan: GroupedPlan,
    },
    /// Opens the next group, where the plan leaves that to people: the gate of the group before it
    /// has passed.
    OpenGroup {
        rollout: Id,
        /// Its place in the plan, from 0.
        group: u32,
    },
    /// Plans a rollout whose devices install inside of windows, or with a consent.
    PlanGuarded {
        // In a box: no other action is as large.
        plan: Box<GuardedPlan>,
    },
    /// Replaces a plan that has not begun by one with guards.
    AmendGuarded {
        plan: Box<GuardedPlan>,
    },
    /// Consents to the installation of one deployment, withdraws that, or refuses it.
    Consent(ConsentDecision),
}

/// The postponement of a deployment that is offered and not yet installing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Postponement {
    pub rollout: Id,
    pub device: Id,
    /// Unix time in ms at which the deployment continues; 0 ends the postponement now.
    pub until_ms: u64,
    pub reason: String,
}

/// The plan of a rollout: the release, the devices, and when it pauses on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutPlan {
    pub rollout: Id,
    pub release: Id,
    pub selection: Selection,
    /// The rollout pauses when more than this share of ended deployments failed, in percent.
    pub error_percent_max: u8,
    /// Number of ended deployments from which on `error_percent_max` counts.
    pub error_sample_min: u32,
    pub deferral: DeferralPolicy,
    pub timers: StepTimers,
    /// The number of times that a retryable failure leads back to `assigned`.
    pub retries_max: u8,
}

/// The devices of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Selection {
    List {
        devices: Vec<Id>,
    },
    /// All active devices that match; each part that is present narrows the set.
    Filter {
        district: Scope,
        model: Option<String>,
        hardware_class: Option<String>,
        /// `name`, or `name=value`.
        tag: Option<String>,
    },
}

/// The limits within which an update may be postponed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeferralPolicy {
    pub count_max: u32,
    /// Longest time in ms from the first offer to the latest `until_ms`.
    pub total_ms_max: u64,
}

/// The time in ms that each step may take before the deployment times out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepTimers {
    /// assigned → offered
    pub offer_ms: u64,
    /// offered → downloaded
    pub download_ms: u64,
    /// downloaded → trial
    pub install_ms: u64,
    /// trial → confirmed
    pub trial_ms: u64,
}

/// A report of one step of one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeploymentReport {
    pub rollout: Id,
    pub device: Id,
    /// The state that the ledger has; a report from another state is refused as stale.
    pub from: DeploymentState,
    pub to: DeploymentState,
    /// Result code, e.g. LwM2M's `/5/0/5`; 0 when there is none. For postponed, waiting_window and
    /// the consent of a Thing it is a number of seconds from now.
    pub code: u32,
    /// Digest of the image that the Thing holds (downloaded) or runs (trial, confirmed, reverted).
    /// It must be that of the artifact for downloaded, trial, confirmed and not_needed, and that or
    /// none for installing and staged.
    pub digest: Option<Hash>,
    /// The newest header that the reporter has seen.
    pub seen_height: u64,
    /// Begins at 1 and rises with each report of this device. It is ignored if the device has a key
    /// and did not sign, so that a gateway can't use up a Thing's numbers.
    pub counter: u64,
    /// Text for people.
    pub detail: String,
    /// The signature of the Thing's key over [`DeploymentReport::message`], which docs/formats.md
    /// describes; without it the step is marked unattested.
    pub signature: Option<Signature>,
}
