//! Registration of organizations, users and gateways.

use lamplighter_state::Overlay;
use lamplighter_types::{
    Account, AccountKey, AccountKind, Fact, Id, KeyPurpose, Notification, Organization, PublicKey,
    Role, Scope, Signature,
};

use super::{UsersError, accounts, keys};
use crate::{BlockContext, Context, ExecutionError};

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

/// A user or gateway to be registered, without any role.
pub(crate) struct Newcomer<'a> {
    pub account: &'a Id,
    pub organization: &'a Id,
    pub name: &'a str,
    /// The district of a gateway; `None` for a user.
    pub gateway_of: Option<&'a Scope>,
    pub key: &'a PublicKey,
    pub proof: &'a Signature,
}

/// Registers an account, which can do nothing yet but what a gateway may.
pub(crate) fn register(
    overlay: &mut Overlay,
    block: &BlockContext,
    new: &Newcomer<'_>,
) -> Result<Vec<Notification>, ExecutionError> {
    let Newcomer {
        account,
        organization,
        name,
        gateway_of,
        key,
        proof,
    } = new;
    if !overlay.exists(&keys::organization(organization))? {
        return Err(UsersError::UnknownOrganization((*organization).clone()).into());
    }
    accounts::require_possession(overlay, block, KeyPurpose::Account, account, key, proof)?;
    let kind = match gateway_of {
        Some(_) => AccountKind::Gateway,
        None => AccountKind::User,
    };
    let record = Account {
        account: (*account).clone(),
        kind,
        organization: (*organization).clone(),
        name: (*name).to_owned(),
        district: gateway_of.cloned().unwrap_or_else(Scope::city),
        keys: vec![AccountKey::first(**key)],
        grants: Vec::new(),
        disabled: false,
        registered_height: block.height,
    };
    accounts::insert(overlay, &record)?;
    let account = record.account;
    Ok(vec![Notification::city(Fact::AccountRegistered {
        account,
    })])
}
