//! The policies of a ledger: how many people must agree, how long their approvals count, and how
//! much an account may use.

use serde::{Deserialize, Serialize};

use crate::limits::{
    APPROVAL_EXPIRES_MS_MAX, APPROVAL_EXPIRES_MS_MIN, APPROVALS_MAX, NEWCOMER_WAIT_MS_MAX,
};
use crate::record::{ALLOWANCE_MIN, Allowances, Retention};
use crate::{Id, PublicKey};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// An account's approval, with the key that signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approval {
    pub account: Id,
    /// The approval counts while this key is in use.
    pub key: PublicKey,
    /// Block time in Unix ms.
    pub at_ms: u64,
}

/// The number of people who must agree, and the time in which they have to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApprovalPolicy {
    pub approvals: u8,
    /// Milliseconds after which an approval no longer counts.
    pub expires_ms: u64,
}

impl ApprovalPolicy {
    /// The stricter number and the shorter time of two policies.
    pub fn strictest(self, other: Self) -> Self {
        Self {
            approvals: self.approvals.max(other.approvals),
            expires_ms: self.expires_ms.min(other.expires_ms),
        }
    }
}

/// The approval policies by the kind of what is approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApprovalPolicies {
    /// Approvers who must approve a release, its author excluded.
    pub releases: ApprovalPolicy,
    /// Approvers who must approve the plan of a rollout.
    pub rollouts: ApprovalPolicy,
    /// Administrators who must approve grants and revocations of the roles of power, and the
    /// enabling of accounts.
    pub power: ApprovalPolicy,
    /// Administrators who must approve the recovery of an account.
    pub recovery: ApprovalPolicy,
    /// Administrators who must approve a change of the validators or observers.
    pub validators: ApprovalPolicy,
    /// Administrators who must approve a change of the policies or of the protocol version.
    pub policies: ApprovalPolicy,
    /// Administrators who must approve the reset of a device's counters, another key for it, or
    /// the second use of its hardware.
    pub devices: ApprovalPolicy,
}

impl ApprovalPolicies {
    /// The policies with their names.
    pub fn named(&self) -> [(&'static str, ApprovalPolicy); 7] {
        let Self {
            releases,
            rollouts,
            power,
            recovery,
            validators,
            policies,
            devices,
        } = *self;
        [
            ("releases", releases),
            ("rollouts", rollouts),
            ("power", power),
            ("recovery", recovery),
            ("validators", validators),
            ("policies", policies),
            ("devices", devices),
        ]
    }

    /// The largest number of administrators that a policy asks for.
    pub fn administrators(&self) -> u8 {
        let Self {
            releases: _,
            rollouts: _,
            power,
            recovery,
            validators,
            policies,
            devices,
        } = self;
        let numbers = [power, recovery, validators, policies, devices].map(|p| p.approvals);
        numbers.into_iter().max().unwrap_or(1)
    }

    /// The largest number of approvers that a policy asks for.
    pub fn approvers(&self) -> u8 {
        self.releases.approvals.max(self.rollouts.approvals)
    }
}

impl Default for ApprovalPolicies {
    fn default() -> Self {
        let people = |approvals, days: u64| ApprovalPolicy {
            approvals,
            expires_ms: days * DAY_MS,
        };
        Self {
            releases: people(2, 30),
            rollouts: people(1, 30),
            power: people(2, 7),
            recovery: people(2, 7),
            validators: people(2, 7),
            policies: people(2, 7),
            devices: people(2, 7),
        }
    }
}

/// The rules that governance sets for a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Policies {
    pub approvals: ApprovalPolicies,
    /// Milliseconds from the grant of a role to the first approval that counts by it. In this time
    /// the others see the grant and can act.
    pub newcomer_wait_ms: u64,
    pub allowances: Allowances,
    pub retention: Retention,
}

/// Why a ledger can't have these policies.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    #[error("the approvals of {policy} are {got}, they must be 1 to {APPROVALS_MAX}")]
    Approvals { policy: &'static str, got: u8 },
    #[error(
        "approvals of {policy} expire after {got_ms} ms, it must be {APPROVAL_EXPIRES_MS_MIN} to \
         {APPROVAL_EXPIRES_MS_MAX}"
    )]
    Expires { policy: &'static str, got_ms: u64 },
    #[error("newcomers wait {got_ms} ms, it must be at most {NEWCOMER_WAIT_MS_MAX}")]
    NewcomerWait { got_ms: u64 },
    #[error(
        "{allowance} must be from {} records and {} bytes to 2^53 - 1: with less, a proposal could \
         not be stored",
        ALLOWANCE_MIN.records,
        ALLOWANCE_MIN.bytes
    )]
    Allowance { allowance: &'static str },
    #[error(
        "{of} is {got_ms} ms, it must be {min} to {max}",
        min = Retention::MS_MIN,
        max = Retention::MS_MAX
    )]
    Retention { of: &'static str, got_ms: u64 },
}

impl PolicyError {
    /// The name of the number that is out of its range.
    pub fn field(&self) -> String {
        match self {
            Self::Approvals { policy, .. } => format!("{policy}.approvals"),
            Self::Expires { policy, .. } => format!("{policy}.expires_ms"),
            Self::NewcomerWait { .. } => "newcomer_wait_ms".to_owned(),
            Self::Allowance { allowance } => (*allowance).to_owned(),
            Self::Retention { of, .. } => format!("retention.{of}"),
        }
    }
}

impl Policies {
    /// The policies of a ledger that one person governs: every approval is enough, and at once. For
    /// tests and trials.
    pub fn of_one_person() -> Self {
        let once = ApprovalPolicy {
            approvals: 1,
            expires_ms: DAY_MS,
        };
        Self {
            approvals: ApprovalPolicies {
                releases: once,
                rollouts: once,
                power: once,
                recovery: once,
                validators: once,
                policies: once,
                devices: once,
            },
            newcomer_wait_ms: 0,
            ..Self::default()
        }
    }

    /// Checks that each number is one by which a city can be governed.
    ///
    /// # Errors
    /// The first number out of its range.
    pub fn check(&self) -> Result<(), PolicyError> {
        let Self {
            approvals,
            newcomer_wait_ms,
            allowances,
            retention,
        } = self;
        retention.check()?;
        for (policy, of) in approvals.named() {
            let (got, got_ms) = (of.approvals, of.expires_ms);
            if !(1..=APPROVALS_MAX).contains(&usize::from(got)) {
                return Err(PolicyError::Approvals { policy, got });
            }
            if !(APPROVAL_EXPIRES_MS_MIN..=APPROVAL_EXPIRES_MS_MAX).contains(&got_ms) {
                return Err(PolicyError::Expires { policy, got_ms });
            }
        }
        if let Some(allowance) = allowances.out_of_range() {
            return Err(PolicyError::Allowance { allowance });
        }
        if *newcomer_wait_ms > NEWCOMER_WAIT_MS_MAX {
            let got_ms = *newcomer_wait_ms;
            return Err(PolicyError::NewcomerWait { got_ms });
        }
        Ok(())
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            approvals: ApprovalPolicies::default(),
            newcomer_wait_ms: DAY_MS,
            allowances: Allowances::default(),
            retention: Retention::default(),
        }
    }
}
