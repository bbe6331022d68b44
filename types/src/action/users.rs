use serde::{Deserialize, Serialize};

use crate::{Id, PublicKey, Role, Scope, Signature};

/// Actions on organizations, accounts, keys and roles.
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
    },
    /// Registers a gateway, which acts in its district and those below.
    RegisterGateway {
        account: Id,
        organization: Id,
        district: Scope,
        key: PublicKey,
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
    /// Replaces the key that signs this transaction. `proof` is the new key's signature over
    /// `"lamplighter/key-rotation/1\0" || chain_id || account || 0x00 || old key`.
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
    Enable {
        account: Id,
    },
    /// One administrator's vote to replace the keys of an account by the single key `new_key`. It
    /// is carried out when as many as the policy requires have voted for the same key.
    Recover {
        account: Id,
        new_key: PublicKey,
    },
}
