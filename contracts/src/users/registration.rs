//! Registration of organizations, users and gateways.

use lamplighter_state::Overlay;
use lamplighter_types::{
    Account, AccountKind, Fact, Id, Notification, Organization, PublicKey, Role, Scope,
};

use super::{UsersError, accounts, keys};
use crate::{Context, ExecutionError};

pub(super) fn register_organization(
    overlay: &mut Overlay,
    context: &Context,
    organization: &Id,
    name: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Administrator, &Scope::city())?;
    let key = keys::organization(organization);
    if overlay.exists(&key)? {
        return Err(UsersError::OrganizationExists(organization.clone()).into());
    }
    let record = Organization {
        organization: organization.clone(),
        name: name.to_owned(),
        registered_height: context.block.height,
    };
    overlay.put(&key, &record);
    let organization = organization.clone();
    Ok(vec![Notification::city(Fact::OrganizationRegistered {
        organization,
    })])
}

pub(super) fn register_user(
    overlay: &mut Overlay,
    context: &Context,
    account: &Id,
    organization: &Id,
    name: &str,
    key: &PublicKey,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Administrator, &Scope::city())?;
    let account = Account {
        account: account.clone(),
        kind: AccountKind::User,
        organization: organization.clone(),
        name: name.to_owned(),
        district: Scope::city(),
        keys: vec![*key],
        grants: Vec::new(),
        disabled: false,
        registered_height: context.block.height,
    };
    register(overlay, account)
}

pub(super) fn register_gateway(
    overlay: &mut Overlay,
    context: &Context,
    account: &Id,
    organization: &Id,
    district: &Scope,
    key: &PublicKey,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Administrator, district)?;
    let account = Account {
        account: account.clone(),
        kind: AccountKind::Gateway,
        organization: organization.clone(),
        name: account.to_string(),
        district: district.clone(),
        keys: vec![*key],
        grants: Vec::new(),
        disabled: false,
        registered_height: context.block.height,
    };
    register(overlay, account)
}

fn register(overlay: &mut Overlay, account: Account) -> Result<Vec<Notification>, ExecutionError> {
    if !overlay.exists(&keys::organization(&account.organization))? {
        return Err(UsersError::UnknownOrganization(account.organization).into());
    }
    accounts::insert(overlay, &account)?;
    Ok(vec![Notification::city(Fact::AccountRegistered {
        account: account.account,
    })])
}
