//! Storage of accounts and keys, with the records that must agree with them.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Account, AccountKind, Id, KeyRecord, PublicKey, Role, Scope};

use super::{UsersError, keys};
use crate::{ExecutionError, Reader};

/// An account that this contract may change.
pub(super) fn changeable_account(overlay: &Overlay, name: &Id) -> Result<Account, ExecutionError> {
    let account = overlay
        .get(&keys::account(name))?
        .ok_or_else(|| UsersError::UnknownAccount(name.clone()))?;
    match account.kind {
        AccountKind::User | AccountKind::Gateway => Ok(account),
        AccountKind::Node => Err(UsersError::IsNode(account.account).into()),
    }
}

/// Stores a new account with its keys, which [`require_new_key`] has passed.
pub(crate) fn insert(overlay: &mut Overlay, account: &Account) -> Result<(), ExecutionError> {
    let name = &account.account;
    if overlay.exists(&keys::account(name))? {
        return Err(UsersError::AccountExists(name.clone()).into());
    }
    for key in &account.keys {
        require_new_key(overlay, key)?;
        introduce_key(overlay, name, key);
    }
    store(overlay, account)?;
    Ok(())
}

/// Stores a changed account.
///
/// # Errors
/// [`UsersError::LastAdministrator`] if no account could administer the city any more.
pub(crate) fn update(overlay: &mut Overlay, account: &Account) -> Result<(), ExecutionError> {
    let listed = keys::administrator(&account.account);
    if overlay.exists(&listed)? && !administers(account) {
        let two = Reader::page(overlay, &keys::administrators(), None, 2)?;
        if two.len() < 2 {
            return Err(UsersError::LastAdministrator(account.account.clone()).into());
        }
    }
    store(overlay, account)?;
    Ok(())
}

fn store(overlay: &mut Overlay, account: &Account) -> Result<(), StateError> {
    let listed = keys::administrator(&account.account);
    match (overlay.exists(&listed)?, administers(account)) {
        (false, true) => overlay.put(&listed, &account.account),
        (true, false) => overlay.delete(&listed),
        (true, true) | (false, false) => {}
    }
    overlay.put(&keys::account(&account.account), account);
    Ok(())
}

fn administers(account: &Account) -> bool {
    let able = !account.disabled && !account.keys.is_empty();
    able && account.has_role(Role::Administrator, &Scope::city())
}

/// Requires an acceptable key that no account has or had.
pub(crate) fn require_new_key(overlay: &Overlay, key: &PublicKey) -> Result<(), ExecutionError> {
    if !key.is_acceptable() {
        return Err(UsersError::WeakKey(*key).into());
    }
    if overlay.exists(&keys::key(key))? {
        return Err(UsersError::KeyTaken(*key).into());
    }
    Ok(())
}

pub(crate) fn introduce_key(overlay: &mut Overlay, account: &Id, key: &PublicKey) {
    let record = KeyRecord {
        account: account.clone(),
        revoked: false,
    };
    overlay.put(&keys::key(key), &record);
}

/// Revokes a key for ever. Its replay window is deleted: the key is refused before the window would
/// be read.
pub(crate) fn retire_key(overlay: &mut Overlay, account: &Id, key: &PublicKey) {
    let record = KeyRecord {
        account: account.clone(),
        revoked: true,
    };
    overlay.put(&keys::key(key), &record);
    overlay.delete(&keys::replay_window(key));
}
