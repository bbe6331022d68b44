//! Records of governance.

use serde::{Deserialize, Serialize};

use crate::record::Approval;
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

/// An open proposal. It leaves the state when it is carried out, withdrawn or expires; the blocks
/// keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proposal {
    pub proposal: Id,
    /// All are made at once, in this order, or none.
    pub changes: Vec<GovernanceChange>,
    /// Digest of the changes.
    pub digest: Hash,
    pub author: Id,
    pub approvals: Vec<Approval>,
    pub proposed_height: u64,
    /// Block time in Unix ms from which on it can't be approved.
    pub expires_ms: u64,
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
