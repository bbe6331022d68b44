use lamplighter_types::limits::SMALL_LIST_MAX;
use lamplighter_types::{DeploymentState, Hash, Id, RolloutStatus};

use super::slots::{CITY_ROLLOUTS_MAX, DISTRICT_ROLLOUTS_MAX, ROLLOUTS_PER_DISTRICT_MAX};
use super::{OPEN_PLANS_PER_ORGANIZATION_MAX, ROLLOUTS_AT_WORK_MAX, STEP_MS_MAX};
use crate::ContractError;
use crate::validate::FieldError;

/// Why the rollouts contract refuses an action.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RolloutsError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("a share is 0 to 100 percent, not {0}")]
    Percent(u8),
    #[error("{field} is 1 to {STEP_MS_MAX} ms, not {got}")]
    Duration { field: &'static str, got: u64 },
    #[error("the devices lie in more than {SMALL_LIST_MAX} districts: name them by a filter")]
    TooManyDistricts,
    #[error("there is a rollout {0} already")]
    Exists(Id),
    #[error("there is no rollout {0}")]
    Unknown(Id),
    #[error("there is no device {0}")]
    UnknownDevice(Id),
    #[error("the rollout is {0:?}, so this can't be done now")]
    Status(RolloutStatus),
    #[error("{0} planned the rollout, so it can't approve it")]
    SelfApproval(Id),
    #[error("{0} has approved this plan already")]
    Approved(Id),
    #[error("the plan is {planned}, not {looked_at}")]
    OtherPlan { planned: Hash, looked_at: Hash },
    #[error(
        "too much failed: the plan has {got} new approvals of the {wanted} that resuming takes"
    )]
    NotApprovedAgain { got: usize, wanted: usize },
    #[error("the plan has {got} approvals that count now, and needs {wanted}")]
    NotApproved { got: usize, wanted: usize },
    #[error("the plan has the most approvals that are kept")]
    TooManyApprovals,
    #[error("{0} has not approved this plan")]
    NoApproval(Id),
    #[error("the plan {0} was not started in time")]
    Lapsed(Id),
    #[error("{0} has {OPEN_PLANS_PER_ORGANIZATION_MAX} plans that were not started, the most")]
    TooManyOpen(Id),
    #[error("{CITY_ROLLOUTS_MAX} rollouts of the whole city are at work, which is the most")]
    TooManyOfCity,
    #[error("{DISTRICT_ROLLOUTS_MAX} rollouts of districts are at work, which is the most")]
    TooManyOfDistricts,
    #[error("{ROLLOUTS_PER_DISTRICT_MAX} rollouts in {0} are at work, which is the most")]
    TooManyOfDistrict(String),
    #[error("{ROLLOUTS_AT_WORK_MAX} rollouts are at work, which is the most")]
    TooMany,
    #[error("the device {device} has no part in the rollout {rollout}")]
    UnknownDeployment { rollout: Id, device: Id },
    #[error("it is too late: the deployment is {0:?}")]
    TooLate(DeploymentState),
    #[error("the deployment is {0:?} and has not been offered, so there is nothing to put off")]
    NotOffered(DeploymentState),
    #[error("the deployment is {0:?}, not postponed")]
    NotPostponed(DeploymentState),
    #[error("a critical release can't be postponed")]
    Critical,
    #[error("it was postponed {0} times, which is the most")]
    PostponedTooOften(u32),
    #[error("it can be put off to a time after now and until {latest_ms}, not to {until_ms}")]
    PostponedTooLong { until_ms: u64, latest_ms: u64 },
    #[error("{0} is not a gateway")]
    NotGateway(Id),
    #[error("{0:?} must be signed by the Thing itself, which has a key")]
    Unsigned(DeploymentState),
    #[error("nobody can have seen the height {0} yet")]
    FutureHeight(u64),
    #[error("the deployment is {current:?}, not {claimed:?}")]
    Stale {
        claimed: DeploymentState,
        current: DeploymentState,
    },
    #[error("{to:?} can't follow {from:?}")]
    Transition {
        from: DeploymentState,
        to: DeploymentState,
    },
    #[error("the digest does not fit: the release's artifact is {0}")]
    Digest(Hash),
}

impl ContractError for RolloutsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Field(error) => error.code(),
            Self::Percent(_) => "rollouts.percent",
            Self::Duration { .. } => "rollouts.duration",
            Self::TooManyDistricts => "rollouts.too_many_districts",
            Self::Exists(_) => "rollouts.exists",
            Self::Unknown(_) => "rollouts.unknown_rollout",
            Self::UnknownDevice(_) => "rollouts.unknown_device",
            Self::Status(_) => "rollouts.status",
            Self::SelfApproval(_) => "rollouts.own_plan",
            Self::Approved(_) => "rollouts.approved",
            Self::OtherPlan { .. } => "rollouts.other_plan",
            Self::NotApprovedAgain { .. } => "rollouts.not_approved_again",
            Self::NotApproved { .. } => "rollouts.not_approved",
            Self::TooManyApprovals => "rollouts.too_many_approvals",
            Self::NoApproval(_) => "rollouts.no_approval",
            Self::Lapsed(_) => "rollouts.lapsed",
            Self::TooManyOpen(_) => "rollouts.too_many_open",
            Self::TooManyOfCity => "rollouts.too_many_of_city",
            Self::TooManyOfDistricts => "rollouts.too_many_of_districts",
            Self::TooManyOfDistrict(_) => "rollouts.too_many_of_district",
            Self::TooMany => "rollouts.too_many",
            Self::UnknownDeployment { .. } => "rollouts.unknown_deployment",
            Self::TooLate(_) => "rollouts.too_late",
            Self::NotOffered(_) => "rollouts.not_offered",
            Self::NotPostponed(_) => "rollouts.not_postponed",
            Self::Critical => "rollouts.critical",
            Self::PostponedTooOften(_) => "rollouts.postponed_too_often",
            Self::PostponedTooLong { .. } => "rollouts.postponed_too_long",
            Self::NotGateway(_) => "rollouts.not_gateway",
            Self::Unsigned(_) => "rollouts.unsigned",
            Self::FutureHeight(_) => "rollouts.future_height",
            Self::Stale { .. } => "rollouts.stale",
            Self::Transition { .. } => "rollouts.transition",
            Self::Digest(_) => "rollouts.digest",
        }
    }
}
