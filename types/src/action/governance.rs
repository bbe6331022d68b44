use serde::{Deserialize, Serialize};

use crate::record::{Observer, Policies};
use crate::{Hash, Id, Validator};

/// Actions on the ledger itself. One administrator proposes a change; it is carried out when enough
/// of them have approved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GovernanceAction {
    Propose {
        proposal: Id,
        change: GovernanceChange,
    },
    /// Approves a proposal; `change` is the digest of the change that the approver read.
    Approve { proposal: Id, change: Hash },
}

/// The change that a proposal makes.
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
