use serde::{Deserialize, Serialize};

use crate::{Id, PublicKey, Role, Scope, Signature};

/// Actions on organizations, accounts, keys and roles that one account carries out. What gives,
/// takes away or restores power is a [`GovernanceChange`](crate::GovernanceChange), which several
/// approve.
///
/// A `proof` is the signature by which the holder of a new key shows that it has it:
/// `"lamplighter/key-possession/2\0" || chain_id || "account" || 0x00 || account || 0x00 || key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UsersAction {
    RegisterOrganization {
        organization: Id,
        name: String,
    },
    RegisterUser {
        account: Id,
        organization: Id,
        name: String,
        key: PublicKey,
        proof: Signature,
    },
    /// Registers a gateway, which acts in its district and those below.
    RegisterGateway {
        account: Id,
        organization: Id,
        district: Scope,
        key: PublicKey,
        proof: Signature,
    },
    /// Grants the role of an operator, auditor or relay.
    Grant {
        account: Id,
        role: Role,
        scope: Scope,
    },
    /// Revokes the role of an operator, auditor or relay.
    Revoke {
        account: Id,
        role: Role,
        scope: Scope,
    },
    /// Adds a key to the account that sends this.
    AddKey {
        key: PublicKey,
        /// Text by which people tell the keys of the account apart, e.g. `safe`.
        label: String,
        proof: Signature,
    },
    /// Replaces the key that signs this transaction.
    RotateKey {
        new_key: PublicKey,
        proof: Signature,
    },
    /// Revokes a key for ever, e.g. a stolen one.
    RevokeKey {
        account: Id,
        key: PublicKey,
    },
    Disable {
        account: Id,
    },
}
