//! Rotation and revocation of keys.

use lamplighter_state::Overlay;
use lamplighter_types::report::key_rotation_message;
use lamplighter_types::{Fact, Id, Notification, PublicKey, Role, Signature};

use super::UsersError;
use super::accounts::{self, changeable_account};
use crate::{Context, ExecutionError};

pub(super) fn rotate(
    overlay: &mut Overlay,
    context: &Context,
    new_key: &PublicKey,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = changeable_account(overlay, &context.sender.account)?;
    accounts::require_new_key(overlay, new_key)?;
    let message = key_rotation_message(&context.block.chain_id, &account.account, &context.key);
    new_key
        .verify(&message, proof)
        .map_err(|_| UsersError::WrongProof)?;
    for key in &mut account.keys {
        if *key == context.key {
            *key = *new_key;
        }
    }
    accounts::retire_key(overlay, &account.account, &context.key);
    accounts::introduce_key(overlay, &account.account, new_key);
    accounts::update(overlay, &account)?;
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
    let Some(at) = account.keys.iter().position(|k| k == key) else {
        return Err(UsersError::NoSuchKey {
            account: account.account,
            key: *key,
        }
        .into());
    };
    account.keys.remove(at);
    accounts::retire_key(overlay, &account.account, key);
    accounts::update(overlay, &account)?;
    Ok(vec![Notification::city(Fact::KeyRevoked {
        account: account.account,
        key: *key,
    })])
}
