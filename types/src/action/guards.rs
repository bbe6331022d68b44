//! Guards of a plan: when a device may install what it holds. They are approved with the plan.

use serde::{Deserialize, Serialize};

use crate::{GroupedPlan, Id};

/// The plan of a rollout whose devices install inside of windows, or with a consent. Its digest is
/// what approvers approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GuardedPlan {
    pub plan: GroupedPlan,
    pub rules: InstallRules,
}

/// What has to be true before a device installs. The download waits for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstallRules {
    /// The gateway orders the installation while one of them is open; at any time if there is
    /// none.
    pub windows: Vec<MaintenanceWindow>,
    /// The kinds of consent of which one is needed; without any, none is.
    pub consent: Vec<ConsentFrom>,
    /// Longest time in ms between the download and the installation. It takes the place of the
    /// part of `install_ms` that is before the installation.
    pub wait_ms_max: u64,
}

/// A time that comes again and again. The contract checks its form, and that it can open; the
/// gateway knows its zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MaintenanceWindow {
    /// When it opens, in the five fields of cron: `0 2 * * 1-5`.
    pub schedule: String,
    /// How long it is open, 1 minute to 7 days.
    pub minutes: u32,
    /// The zone of its calendar and clock, by its name of IANA: `Europe/Berlin`.
    pub zone: String,
}

/// A kind of consent to an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConsentFrom {
    /// An operator of the device's district.
    Operator,
    /// An account of a person of the organization that owns the device.
    Owner,
    /// The Thing, with the signature of its key.
    Thing,
}

/// A person's decision about the installation of one deployment, which is offered and not yet
/// installing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsentDecision {
    pub rollout: Id,
    pub device: Id,
    pub decision: ConsentChoice,
    pub reason: String,
}

/// What was decided about an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConsentChoice {
    /// The device may install until then, in Unix ms.
    Granted { until_ms: u64 },
    /// A consent no longer counts.
    Withdrawn,
    /// The device shall not install it: the deployment is cancelled.
    Refused,
}
