use serde::{Deserialize, Serialize};

use crate::codec;
use crate::record::{Observer, Policies};
use crate::{Hash, Id, PublicKey, Role, Scope, Signature, Validator};

/// Actions on proposals. One administrator proposes changes; they are carried out together when
/// enough administrators have approved them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GovernanceAction {
    Propose {
        proposal: Id,
        changes: Vec<GovernanceChange>,
    },
    /// Approves a proposal; `changes` is the digest of the changes that the approver read.
    Approve { proposal: Id, changes: Hash },
    /// Takes an approval back. If the author does, the proposal ends.
    Withdraw { proposal: Id },
}

/// One of the changes that a proposal makes.
///
/// A `proof` is the signature by which the holder of a new key shows that it has it; see
/// [`KeyPurpose`](crate::KeyPurpose).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GovernanceChange {
    AddValidator {
        validator: Validator,
        proof: Signature,
    },
    RemoveValidator {
        node: u64,
    },
    AddObserver {
        observer: Observer,
        proof: Signature,
    },
    RemoveObserver {
        node: u64,
    },
    SetPolicies {
        policies: Policies,
    },
    SetProtocol {
        version: u32,
        from_height: u64,
    },
    /// Registers a user, to whom further changes of the same proposal may grant roles.
    RegisterUser {
        account: Id,
        organization: Id,
        name: String,
        key: PublicKey,
        proof: Signature,
    },
    Grant {
        account: Id,
        role: Role,
        scope: Scope,
    },
    Revoke {
        account: Id,
        role: Role,
        scope: Scope,
    },
    Disable {
        account: Id,
    },
    Enable {
        account: Id,
    },
    /// Replaces all keys of an account by `new_key`. Its roles begin to wait as a newcomer's.
    Recover {
        account: Id,
        new_key: PublicKey,
        proof: Signature,
    },
    /// Sets numbers of a device that otherwise only grow.
    ResetDevice {
        device: Id,
        counters: DeviceCounters,
    },
    /// Replaces the key of a device, e.g. after its electronics were exchanged.
    ReplaceDeviceKey {
        device: Id,
        key: PublicKey,
        proof: Signature,
    },
    /// Lets the key of a decommissioned device be registered once more, under a new id.
    ReuseHardware {
        device: Id,
    },
}

impl GovernanceChange {
    /// The digest by which approvers name the changes of a proposal.
    pub fn digest(changes: &[Self]) -> Hash {
        codec::digest(&changes)
    }
}

/// Numbers of a device that its reports and events only raise; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::hash::Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceCounters {
    /// The highest report counter used.
    pub report_counter: Option<u64>,
    /// The security counter below which no release is installed.
    pub security_counter: Option<u64>,
    /// The highest sequence number of its events; those up to it count as recorded.
    pub event_sequence: Option<u64>,
}
