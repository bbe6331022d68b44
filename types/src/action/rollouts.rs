use serde::{Deserialize, Serialize};

use crate::{DeploymentState, Hash, Id, Scope, Signature};

/// Staged delivery of releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutsAction {
    Plan {
        plan: RolloutPlan,
    },
    /// `plan` is the digest of the exact plan.
    Approve {
        rollout: Id,
        plan: Hash,
    },
    Start {
        rollout: Id,
    },
    Pause {
        rollout: Id,
        reason: String,
    },
    /// After an error pause this needs a new approval of the plan.
    Resume {
        rollout: Id,
    },
    /// Ends what is not yet installing.
    Cancel {
        rollout: Id,
        reason: String,
    },
    /// Defers one deployment that is offered and not yet installing; `until_ms` 0 ends its
    /// postponement.
    Postpone {
        rollout: Id,
        device: Id,
        until_ms: u64,
        reason: String,
    },
    /// A gateway's reports, in the order in which they happened. Each is taken or refused by itself
    /// (the receipt names the refused ones); the transaction fails when none is taken.
    Report {
        reports: Vec<DeploymentReport>,
    },
}

/// What a rollout delivers, to whom, and when it stops by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutPlan {
    pub rollout: Id,
    pub release: Id,
    pub selection: Selection,
    /// The rollout pauses when more than this share of ended deployments failed, in percent.
    pub error_percent_max: u8,
    /// Ended deployments before `error_percent_max` is looked at.
    pub error_sample_min: u32,
    pub deferral: DeferralPolicy,
    pub timers: StepTimers,
    /// How often a retryable failure leads back to `assigned`.
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
    /// All active devices that match, each given part narrowing the set.
    Filter {
        district: Scope,
        model: Option<String>,
        hardware_class: Option<String>,
        /// `name`, or `name=value`.
        tag: Option<String>,
    },
}

/// How far an update may be put off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeferralPolicy {
    pub count_max: u32,
    /// From the first offer to the latest `until_ms`.
    pub total_ms_max: u64,
}

/// How long each step may take before the deployment is timed out.
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

/// One step of one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeploymentReport {
    pub rollout: Id,
    pub device: Id,
    /// The state that the ledger has; a stale one is refused.
    pub from: DeploymentState,
    pub to: DeploymentState,
    /// Result code, e.g. LwM2M's `/5/0/5`; 0 when there is none.
    pub code: u32,
    /// What the Thing holds (downloaded) or runs (trial, confirmed, reverted). That of the artifact
    /// for downloaded, trial, confirmed and not_needed; for installing and staged that or none.
    pub digest: Option<Hash>,
    /// The newest header that the reporter has seen.
    pub seen_height: u64,
    /// From 1, above all earlier ones of this device. Not looked at when a device has a key and did
    /// not sign: a gateway can't use up a Thing's numbers.
    pub counter: u64,
    /// For a person.
    pub detail: String,
    /// By the Thing's key over [`DeploymentReport::message`], which docs/formats.md describes;
    /// without it the step is marked unattested.
    pub signature: Option<Signature>,
}
