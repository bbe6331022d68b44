//! Roles of users: granted and revoked.

use lamplighter_state::Overlay;
use lamplighter_types::limits::GRANTS_PER_ACCOUNT_MAX;
use lamplighter_types::{Account, AccountKind, Fact, Grant, Id, Notification, Role, Scope};

use super::UsersError;
use super::accounts::{self, Deciders, changeable_account};
use crate::{BlockContext, Context, ExecutionError};

/// Grants a role that carries no power over others, by one administrator.
pub(super) fn grant_plain(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    role: Role,
    scope: &Scope,
) -> Result<Vec<Notification>, ExecutionError> {
    require_plain(context, role, scope)?;
    let sender = &context.sender.account;
    if name == sender {
        return Err(UsersError::SelfGrant(name.clone()).into());
    }
    grant(overlay, &context.block, name, role, scope)
}

/// Revokes such a role.
pub(super) fn revoke_plain(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    role: Role,
    scope: &Scope,
) -> Result<Vec<Notification>, ExecutionError> {
    require_plain(context, role, scope)?;
    let by = Deciders::One(&context.sender.account);
    revoke(overlay, &context.block, name, role, scope, by)
}

fn require_plain(context: &Context, role: Role, scope: &Scope) -> Result<(), ExecutionError> {
    context.require(Role::Administrator, scope)?;
    if role.is_power() {
        return Err(UsersError::PowerRole(role).into());
    }
    Ok(())
}

pub(crate) fn grant(
    overlay: &mut Overlay,
    block: &BlockContext,
    name: &Id,
    role: Role,
    scope: &Scope,
) -> Result<Vec<Notification>, ExecutionError> {
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
        since_ms: block.time_ms,
    });
    // Nothing is taken away, so it does not matter who decided.
    accounts::update(overlay, block, &account, Deciders::Several)?;
    let scope = scope.clone();
    Ok(vec![Notification::city(Fact::RoleGranted {
        account: account.account,
        role,
        scope,
    })])
}

pub(crate) fn revoke(
    overlay: &mut Overlay,
    block: &BlockContext,
    name: &Id,
    role: Role,
    scope: &Scope,
    by: Deciders<'_>,
) -> Result<Vec<Notification>, ExecutionError> {
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
    accounts::update(overlay, block, &account, by)?;
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
