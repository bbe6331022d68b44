//! The actions on accounts: checks and dispatch.

use lamplighter_state::Overlay;
use lamplighter_types::limits::{ID_BYTES_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{Id, Notification, PublicKey, Role, Scope, Signature, UsersAction};

use super::registration::{self, Newcomer};
use super::{UsersError, key_changes, lifecycle, roles};
use crate::{Context, ExecutionError, validate};

/// Checks shape and size.
pub fn check(action: &UsersAction) -> Result<(), UsersError> {
    match action {
        UsersAction::RegisterOrganization {
            organization: _,
            name,
        } => {
            validate::name("name", name, TEXT_BYTES_MAX)?;
        }
        UsersAction::RegisterUser {
            account: _,
            organization: _,
            name,
            key,
            proof: _,
        } => check_user(name, key)?,
        UsersAction::RegisterGateway {
            account: _,
            organization: _,
            district: _,
            key,
            proof: _,
        } => check_key(key)?,
        UsersAction::AddKey {
            key,
            label,
            proof: _,
        } => {
            validate::name("label", label, ID_BYTES_MAX)?;
            check_key(key)?;
        }
        UsersAction::RotateKey { new_key, proof: _ } => check_key(new_key)?,
        UsersAction::Grant {
            account: _,
            role: _,
            scope: _,
        }
        | UsersAction::Revoke {
            account: _,
            role: _,
            scope: _,
        }
        | UsersAction::RevokeKey { account: _, key: _ }
        | UsersAction::Disable { account: _ } => {}
    }
    Ok(())
}

/// Checks the name and the key of a user.
pub(crate) fn check_user(name: &str, key: &PublicKey) -> Result<(), UsersError> {
    validate::name("name", name, TEXT_BYTES_MAX)?;
    check_key(key)
}

/// Checks that a key is acceptable.
pub(crate) fn check_key(key: &PublicKey) -> Result<(), UsersError> {
    if key.is_acceptable() {
        Ok(())
    } else {
        Err(UsersError::WeakKey(*key))
    }
}

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &UsersAction,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        UsersAction::RegisterOrganization { organization, name } => {
            registration::register_organization(overlay, context, organization, name)
        }
        UsersAction::RegisterUser {
            account,
            organization,
            name,
            key,
            proof,
        } => {
            let of = (account, organization, &name[..]);
            register(overlay, context, of, None, key, proof)
        }
        UsersAction::RegisterGateway {
            account,
            organization,
            district,
            key,
            proof,
        } => {
            let of = (account, organization, account.as_str());
            register(overlay, context, of, Some(district), key, proof)
        }
        UsersAction::Grant {
            account,
            role,
            scope,
        } => roles::grant_plain(overlay, context, account, *role, scope),
        UsersAction::Revoke {
            account,
            role,
            scope,
        } => roles::revoke_plain(overlay, context, account, *role, scope),
        UsersAction::AddKey { key, label, proof } => {
            key_changes::add(overlay, context, key, label, proof)
        }
        UsersAction::RotateKey { new_key, proof } => {
            key_changes::rotate(overlay, context, new_key, proof)
        }
        UsersAction::RevokeKey { account, key } => {
            key_changes::revoke(overlay, context, account, key)
        }
        UsersAction::Disable { account } => lifecycle::disable_by_one(overlay, context, account),
    }
}

/// Registers a user or a gateway, by one administrator of its district.
fn register(
    overlay: &mut Overlay,
    context: &Context,
    (account, organization, name): (&Id, &Id, &str),
    gateway_of: Option<&Scope>,
    key: &PublicKey,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let city = Scope::city();
    context.require(Role::Administrator, gateway_of.unwrap_or(&city))?;
    let new = Newcomer {
        account,
        organization,
        name,
        gateway_of,
        key,
        proof,
    };
    registration::register(overlay, &context.block, &new)
}
