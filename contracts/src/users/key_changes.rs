//! Keys added, rotated and revoked.

use lamplighter_state::Overlay;
use lamplighter_types::limits::KEYS_PER_ACCOUNT_MAX;
use lamplighter_types::{
    Account, AccountKey, Fact, Id, KeyPurpose, Notification, PublicKey, Role, Signature,
};

use super::UsersError;
use super::accounts::{self, Deciders, changeable_account};
use crate::{Context, ExecutionError};

/// Adds a key to the sender's account. The account has one vote whatever the number of its keys,
/// so a thief of one key gains no approval by adding more. What the thief gains is time: the added
/// key stays after the stolen one is revoked, until it is revoked too, or the account recovered.
pub(super) fn add(
    overlay: &mut Overlay,
    context: &Context,
    key: &PublicKey,
    label: &str,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = changeable_account(overlay, &context.sender.account)?;
    if account.keys.len() >= KEYS_PER_ACCOUNT_MAX {
        return Err(UsersError::TooManyKeys(account.account).into());
    }
    introduce(overlay, context, &account, key, proof)?;
    account.keys.push(AccountKey {
        key: *key,
        label: label.to_owned(),
    });
    update(overlay, context, &account)?;
    Ok(vec![Notification::city(Fact::KeyAdded {
        account: account.account,
        key: *key,
    })])
}

/// Replaces the key that signed; the label stays.
pub(super) fn rotate(
    overlay: &mut Overlay,
    context: &Context,
    new_key: &PublicKey,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = changeable_account(overlay, &context.sender.account)?;
    introduce(overlay, context, &account, new_key, proof)?;
    for held in &mut account.keys {
        if held.key == context.key {
            held.key = *new_key;
        }
    }
    accounts::retire_key(overlay, &account.account, &context.key);
    update(overlay, context, &account)?;
    let name = account.account;
    Ok(vec![
        Notification::city(Fact::KeyAdded {
            account: name.clone(),
            key: *new_key,
        }),
        Notification::city(Fact::KeyRevoked {
            account: name,
            key: context.key,
        }),
    ])
}

pub(super) fn revoke(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    key: &PublicKey,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = changeable_account(overlay, name)?;
    if context.sender.account != account.account
        && !context
            .sender
            .has_role(Role::Administrator, &account.district)
    {
        context.require(Role::Security, &account.district)?;
    }
    let Some(at) = account.keys.iter().position(|held| held.key == *key) else {
        return Err(UsersError::NoSuchKey {
            account: account.account,
            key: *key,
        }
        .into());
    };
    account.keys.remove(at);
    accounts::retire_key(overlay, &account.account, key);
    update(overlay, context, &account)?;
    Ok(vec![Notification::city(Fact::KeyRevoked {
        account: account.account,
        key: *key,
    })])
}

fn introduce(
    overlay: &mut Overlay,
    context: &Context,
    account: &Account,
    key: &PublicKey,
    proof: &Signature,
) -> Result<(), ExecutionError> {
    let (block, name) = (&context.block, &account.account);
    accounts::require_possession(overlay, block, KeyPurpose::Account, name, key, proof)?;
    accounts::introduce_key(overlay, name, key);
    Ok(())
}

fn update(
    overlay: &mut Overlay,
    context: &Context,
    account: &Account,
) -> Result<(), ExecutionError> {
    let by = Deciders::One(&context.sender.account);
    accounts::update(overlay, &context.block, account, by)
}
