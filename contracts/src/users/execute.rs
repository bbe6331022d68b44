use lamplighter_state::Overlay;
use lamplighter_types::limits::{GRANTS_PER_ACCOUNT_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{
    Account, AccountKind, Fact, Grant, Id, Notification, Organization, PublicKey, Role, Scope,
    UsersAction,
};

use super::{UsersError, accounts, keyring, keys};
use crate::{Context, ExecutionError, in_city, shape};

/// Checks shape and size.
pub fn check(action: &UsersAction) -> Result<(), UsersError> {
    match action {
        UsersAction::RegisterOrganization {
            organization: _,
            name,
        } => {
            shape::name("name", name, TEXT_BYTES_MAX)?;
        }
        UsersAction::RegisterUser {
            account: _,
            organization: _,
            name,
            key,
        } => {
            shape::name("name", name, TEXT_BYTES_MAX)?;
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
            register_organization(overlay, context, organization, name)
        }
        UsersAction::RegisterUser {
            account,
            organization,
            name,
            key,
        } => register_user(overlay, context, account, organization, name, key),
        UsersAction::RegisterGateway {
            account,
            organization,
            district,
            key,
        } => register_gateway(overlay, context, account, organization, district, key),
        UsersAction::Grant {
            account,
            role,
            scope,
        } => grant(overlay, context, account, *role, scope),
        UsersAction::Revoke {
            account,
            role,
            scope,
        } => revoke(overlay, context, account, *role, scope),
        UsersAction::RotateKey { new_key, proof } => {
            keyring::rotate(overlay, context, new_key, proof)
        }
        UsersAction::RevokeKey { account, key } => keyring::revoke(overlay, context, account, key),
        UsersAction::Disable { account } => set_disabled(overlay, context, account, true),
        UsersAction::Enable { account } => set_disabled(overlay, context, account, false),
        UsersAction::Recover { account, new_key } => {
            keyring::recover(overlay, context, account, new_key)
        }
    }
}

fn register_organization(
    overlay: &mut Overlay,
    context: &Context,
    organization: &Id,
    name: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    context.demand(Role::Administrator, &Scope::city())?;
    let key = keys::organization(organization);
    if overlay.exists(&key)? {
        return Err(UsersError::OrganizationExists(organization.clone()).into());
    }
    let record = Organization {
        organization: organization.clone(),
        name: name.to_owned(),
        registered_height: context.height,
    };
    overlay.put(&key, &record);
    let organization = organization.clone();
    Ok(vec![in_city(Fact::OrganizationRegistered { organization })])
}

fn register_user(
    overlay: &mut Overlay,
    context: &Context,
    account: &Id,
    organization: &Id,
    name: &str,
    key: &PublicKey,
) -> Result<Vec<Notification>, ExecutionError> {
    context.demand(Role::Administrator, &Scope::city())?;
    let account = Account {
        account: account.clone(),
        kind: AccountKind::User,
        organization: organization.clone(),
        name: name.to_owned(),
        district: Scope::city(),
        keys: vec![*key],
        grants: Vec::new(),
        disabled: false,
        registered_height: context.height,
    };
    register(overlay, account)
}

fn register_gateway(
    overlay: &mut Overlay,
    context: &Context,
    account: &Id,
    organization: &Id,
    district: &Scope,
    key: &PublicKey,
) -> Result<Vec<Notification>, ExecutionError> {
    context.demand(Role::Administrator, district)?;
    let account = Account {
        account: account.clone(),
        kind: AccountKind::Gateway,
        organization: organization.clone(),
        name: account.to_string(),
        district: district.clone(),
        keys: vec![*key],
        grants: Vec::new(),
        disabled: false,
        registered_height: context.height,
    };
    register(overlay, account)
}

fn register(overlay: &mut Overlay, account: Account) -> Result<Vec<Notification>, ExecutionError> {
    if !overlay.exists(&keys::organization(&account.organization))? {
        return Err(UsersError::UnknownOrganization(account.organization).into());
    }
    accounts::insert(overlay, &account)?;
    Ok(vec![in_city(Fact::AccountRegistered {
        account: account.account,
    })])
}

fn grant(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    role: Role,
    scope: &Scope,
) -> Result<Vec<Notification>, ExecutionError> {
    context.demand(Role::Administrator, scope)?;
    let mut account = user(overlay, name)?;
    let grant = Grant {
        role,
        scope: scope.clone(),
    };
    if account.grants.contains(&grant) {
        let Grant { role, scope } = grant;
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
    account.grants.push(grant);
    accounts::update(overlay, &account)?;
    let scope = scope.clone();
    Ok(vec![in_city(Fact::RoleGranted {
        account: account.account,
        role,
        scope,
    })])
}

fn revoke(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    role: Role,
    scope: &Scope,
) -> Result<Vec<Notification>, ExecutionError> {
    context.demand(Role::Administrator, scope)?;
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
    Ok(vec![in_city(Fact::RoleRevoked {
        account: account.account,
        role,
        scope,
    })])
}

fn set_disabled(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    disabled: bool,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = governable(overlay, name)?;
    context.demand(Role::Administrator, &account.district)?;
    if account.disabled == disabled {
        let error = if disabled {
            UsersError::Disabled
        } else {
            UsersError::Enabled
        };
        return Err(error(account.account).into());
    }
    account.disabled = disabled;
    accounts::update(overlay, &account)?;
    let account = account.account;
    let fact = if disabled {
        Fact::AccountDisabled { account }
    } else {
        Fact::AccountEnabled { account }
    };
    Ok(vec![in_city(fact)])
}

fn user(overlay: &Overlay, name: &Id) -> Result<Account, ExecutionError> {
    let account = governable(overlay, name)?;
    match account.kind {
        AccountKind::User => Ok(account),
        AccountKind::Gateway | AccountKind::Node => {
            Err(UsersError::NotAUser(account.account).into())
        }
    }
}

/// An account that this contract may change.
pub(super) fn governable(overlay: &Overlay, name: &Id) -> Result<Account, ExecutionError> {
    let account = overlay
        .get(&keys::account(name))?
        .ok_or_else(|| UsersError::UnknownAccount(name.clone()))?;
    match account.kind {
        AccountKind::User | AccountKind::Gateway => Ok(account),
        AccountKind::Node => Err(UsersError::IsNode(account.account).into()),
    }
}
