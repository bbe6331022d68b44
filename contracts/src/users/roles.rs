//! Roles of users: granted and revoked.

use lamplighter_state::Overlay;
use lamplighter_types::limits::GRANTS_PER_ACCOUNT_MAX;
use lamplighter_types::{Account, AccountKind, Fact, Grant, Id, Notification, Role, Scope};

use super::UsersError;
use super::accounts::{self, changeable_account};
use crate::{Context, ExecutionError};

pub(super) fn grant(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    role: Role,
    scope: &Scope,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Administrator, scope)?;
    let mut account = user(overlay, name)?;
    let has = |grant: &Grant| grant.role == role && grant.scope == *scope;
    if account.grants.iter().any(has) {
        let scope = scope.clone();
        return Err(UsersError::RoleGranted {
            account: account.account,
            role,
            scope,
        }
        .into());
    }
    if account.grants.len() >= GRANTS_PER_ACCOUNT_MAX {
        return Err(UsersError::TooManyGrants(account.account).into());
    }
    account.grants.push(Grant {
        role,
        scope: scope.clone(),
        since_ms: context.block.time_ms,
    });
    accounts::update(overlay, &account)?;
    let scope = scope.clone();
    Ok(vec![Notification::city(Fact::RoleGranted {
        account: account.account,
        role,
        scope,
    })])
}

pub(super) fn revoke(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    role: Role,
    scope: &Scope,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Administrator, scope)?;
    let mut account = user(overlay, name)?;
    let granted = account
        .grants
        .iter()
        .position(|g| g.role == role && g.scope == *scope);
    let scope = scope.clone();
    let Some(granted) = granted else {
        return Err(UsersError::NoSuchGrant {
            account: account.account,
            role,
            scope,
        }
        .into());
    };
    account.grants.remove(granted);
    accounts::update(overlay, &account)?;
    Ok(vec![Notification::city(Fact::RoleRevoked {
        account: account.account,
        role,
        scope,
    })])
}

fn user(overlay: &Overlay, name: &Id) -> Result<Account, ExecutionError> {
    let account = changeable_account(overlay, name)?;
    match account.kind {
        AccountKind::User => Ok(account),
        AccountKind::Gateway | AccountKind::Node => {
            Err(UsersError::NotAUser(account.account).into())
        }
    }
}
