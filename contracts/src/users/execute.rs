//! The actions on accounts: checks and dispatch.

use lamplighter_state::Overlay;
use lamplighter_types::limits::TEXT_BYTES_MAX;
use lamplighter_types::{Notification, PublicKey, UsersAction};

use super::{UsersError, key_changes, lifecycle, recovery, registration, roles};
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
        } => {
            validate::name("name", name, TEXT_BYTES_MAX)?;
            strong(key)?;
        }
        UsersAction::RegisterGateway {
            account: _,
            organization: _,
            district: _,
            key,
        } => {
            strong(key)?;
        }
        UsersAction::RotateKey { new_key, proof: _ } => strong(new_key)?,
        UsersAction::Recover {
            account: _,
            new_key,
        } => strong(new_key)?,
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
        | UsersAction::Disable { account: _ }
        | UsersAction::Enable { account: _ } => {}
    }
    Ok(())
}

fn strong(key: &PublicKey) -> Result<(), UsersError> {
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
        } => registration::register_user(overlay, context, account, organization, name, key),
        UsersAction::RegisterGateway {
            account,
            organization,
            district,
            key,
        } => registration::register_gateway(overlay, context, account, organization, district, key),
        UsersAction::Grant {
            account,
            role,
            scope,
        } => roles::grant(overlay, context, account, *role, scope),
        UsersAction::Revoke {
            account,
            role,
            scope,
        } => roles::revoke(overlay, context, account, *role, scope),
        UsersAction::RotateKey { new_key, proof } => {
            key_changes::rotate(overlay, context, new_key, proof)
        }
        UsersAction::RevokeKey { account, key } => {
            key_changes::revoke(overlay, context, account, key)
        }
        UsersAction::Disable { account } => {
            lifecycle::set_disabled(overlay, context, account, true)
        }
        UsersAction::Enable { account } => {
            lifecycle::set_disabled(overlay, context, account, false)
        }
        UsersAction::Recover { account, new_key } => {
            recovery::recover(overlay, context, account, new_key)
        }
    }
}
