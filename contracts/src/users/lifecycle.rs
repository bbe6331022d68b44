//! Accounts disabled, enabled again, recovered.

use lamplighter_state::Overlay;
use lamplighter_types::{
    AccountKey, Fact, Id, KeyPurpose, Notification, PublicKey, Role, Signature,
};

use super::UsersError;
use super::accounts::{self, Deciders, changeable_account};
use crate::{BlockContext, Context, ExecutionError};

/// Disables an account, by one administrator of its district.
pub(super) fn disable_by_one(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let account = changeable_account(overlay, name)?;
    context.require(Role::Administrator, &account.district)?;
    let by = Deciders::One(&context.sender.account);
    disable(overlay, &context.block, name, by)
}

pub(crate) fn disable(
    overlay: &mut Overlay,
    block: &BlockContext,
    name: &Id,
    by: Deciders<'_>,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = changeable_account(overlay, name)?;
    if account.disabled {
        return Err(UsersError::Disabled(account.account).into());
    }
    account.disabled = true;
    accounts::update(overlay, block, &account, by)?;
    let account = account.account;
    Ok(vec![Notification::city(Fact::AccountDisabled { account })])
}

pub(crate) fn enable(
    overlay: &mut Overlay,
    block: &BlockContext,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = changeable_account(overlay, name)?;
    if !account.disabled {
        return Err(UsersError::Enabled(account.account).into());
    }
    account.disabled = false;
    accounts::update(overlay, block, &account, Deciders::Several)?;
    let account = account.account;
    Ok(vec![Notification::city(Fact::AccountEnabled { account })])
}

/// Replaces all keys of an account. The person behind the new key may be another one, so every
/// role waits from now on as that of a newcomer: who recovers accounts gains no approvals by it
/// before the others can look.
pub(crate) fn recover(
    overlay: &mut Overlay,
    block: &BlockContext,
    name: &Id,
    new_key: &PublicKey,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = changeable_account(overlay, name)?;
    accounts::require_possession(overlay, block, KeyPurpose::Account, name, new_key, proof)?;
    let old = std::mem::replace(&mut account.keys, vec![AccountKey::first(*new_key)]);
    for grant in &mut account.grants {
        grant.since_ms = block.time_ms;
    }
    let mut notifications = vec![Notification::city(Fact::AccountRecovered {
        account: name.clone(),
    })];
    for AccountKey { key, label: _ } in old {
        accounts::retire_key(overlay, name, &key);
        let account = name.clone();
        notifications.push(Notification::city(Fact::KeyRevoked { account, key }));
    }
    accounts::introduce_key(overlay, name, new_key);
    accounts::update(overlay, block, &account, Deciders::Several)?;
    let (account, key) = (name.clone(), *new_key);
    notifications.push(Notification::city(Fact::KeyAdded { account, key }));
    Ok(notifications)
}
