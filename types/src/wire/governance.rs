use serde::{Deserialize, Serialize};

use crate::{Id, Proposal, Scope};

/// An open proposal with what it still lacks, at the time of the newest block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProposalStanding {
    pub proposal: Proposal,
    /// The approvals that it needs by the policies in force now.
    pub needed: u8,
    /// The number of its approvals that count now. The approval that makes them enough carries it
    /// out; nothing happens by the time alone.
    pub counted: u8,
    pub approvals: Vec<ApprovalStanding>,
    /// The places for all of which one must be administrator to approve it.
    pub scopes: Vec<Scope>,
    /// Administrators of the whole city who have not approved and may. An administrator of its
    /// places alone may as well.
    pub candidates: Vec<Candidate>,
}

/// Whether an approval counts now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApprovalStanding {
    pub account: Id,
    pub counts: ApprovalCounts,
    /// Unix ms in which it was made.
    pub at_ms: u64,
    /// Unix ms from which on it no longer counts.
    pub expires_ms: u64,
}

/// Why an approval counts or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ApprovalCounts {
    Counts,
    /// The approver's role is younger than the waiting time; it counts from then on, Unix ms.
    From {
        time_ms: u64,
    },
    Expired,
    /// The key that gave it is revoked, or of another account.
    KeyRevoked,
    /// The approver is disabled, or lacks the role by now.
    RoleLost,
    /// The approver would get power by the proposal.
    Interested,
}

/// An account that may approve a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidate {
    pub account: Id,
    /// Unix ms from which on it may; 0 or a time in the past is now.
    pub from_ms: u64,
}
