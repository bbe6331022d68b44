use serde::{Deserialize, Serialize};

use crate::record::{Observer, Policies};
use crate::{Hash, Id, Validator};

/// Changes of the ledger itself: proposed by one administrator, carried out when enough have
/// approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GovernanceAction {
    Propose {
        proposal: Id,
        change: GovernanceChange,
    },
    /// `change` is the digest of the change that the approver looked at.
    Approve { proposal: Id, change: Hash },
}

/// What a proposal changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GovernanceChange {
    AddValidator { validator: Validator },
    RemoveValidator { node: u64 },
    AddObserver { observer: Observer },
    RemoveObserver { node: u64 },
    SetPolicies { policies: Policies },
    SetProtocol { version: u32, from_height: u64 },
}
