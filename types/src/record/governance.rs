//! Records of governance.

use serde::{Deserialize, Serialize};

use crate::{GovernanceChange, Hash, Id, PublicKey};

/// A node that follows the ledger without a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Observer {
    pub node: u64,
    pub account: Id,
    pub key: PublicKey,
    pub address: String,
}

/// The numbers of people who must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Policies {
    /// Approvals of a release by people other than its author.
    pub release_approvals: u8,
    pub rollout_approvals: u8,
    /// Administrators who must vote for the recovery of an account.
    pub recovery_approvals: u8,
    /// Administrators who must approve a governance proposal, its author included.
    pub governance_approvals: u8,
}

impl Policies {
    /// The numbers with their names.
    pub fn named(&self) -> [(&'static str, u8); 4] {
        let Self {
            release_approvals,
            rollout_approvals,
            recovery_approvals,
            governance_approvals,
        } = *self;
        [
            ("release_approvals", release_approvals),
            ("rollout_approvals", rollout_approvals),
            ("recovery_approvals", recovery_approvals),
            ("governance_approvals", governance_approvals),
        ]
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            release_approvals: 2,
            rollout_approvals: 1,
            recovery_approvals: 2,
            governance_approvals: 2,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proposal {
    pub proposal: Id,
    pub change: GovernanceChange,
    /// Digest of the change.
    pub digest: Hash,
    pub author: Id,
    pub approvals: Vec<Id>,
    pub carried_out: bool,
    pub proposed_height: u64,
}

/// The protocol version in force, and the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Protocol {
    pub version: u32,
    /// The next version and the height from which on it is in force.
    pub next: Option<(u32, u64)>,
}
