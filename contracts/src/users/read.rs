//! Queries of accounts, for the edge and for other contracts.

use lamplighter_state::StateError;
use lamplighter_types::limits::HOLDERS_MAX;
use lamplighter_types::{Account, Id, KeyRecord, Organization, PublicKey, ReplayWindow};

use super::keys;
use crate::Reader;

pub fn organization(
    reader: &impl Reader,
    organization: &Id,
) -> Result<Option<Organization>, StateError> {
    reader.get(&keys::organization(organization))
}

/// Organizations by name, after the name `after`.
pub fn organizations(
    reader: &impl Reader,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Organization>, StateError> {
    let after = after.map(keys::organization);
    reader.page(&keys::organizations(), after.as_ref(), limit)
}

pub fn account(reader: &impl Reader, account: &Id) -> Result<Option<Account>, StateError> {
    reader.get(&keys::account(account))
}

/// Accounts by name, after the name `after`.
pub fn accounts(
    reader: &impl Reader,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Account>, StateError> {
    let after = after.map(keys::account);
    reader.page(&keys::accounts(), after.as_ref(), limit)
}

/// The accounts that can administer the whole city now, by name.
///
/// # Errors
/// The state can't be read, or an account of the list is missing.
pub fn administrators(reader: &impl Reader) -> Result<Vec<Account>, StateError> {
    let names: Vec<Id> = reader.page(&keys::administrators(), None, HOLDERS_MAX)?;
    let read = |name: Id| {
        let what = format!("the administrator {name}");
        account(reader, &name)?.ok_or(StateError::Missing { what })
    };
    names.into_iter().map(read).collect()
}

/// The account that acts with `key`; `None` if there is none or the key was revoked. The account
/// may be disabled.
pub fn account_of_key(
    reader: &impl Reader,
    key: &PublicKey,
) -> Result<Option<Account>, StateError> {
    match reader.get(&keys::key(key))? {
        Some(KeyRecord {
            account: name,
            revoked: false,
        }) => account(reader, &name),
        Some(KeyRecord {
            account: _,
            revoked: true,
        })
        | None => Ok(None),
    }
}

/// The sequence numbers that a key has used.
pub fn replay_window(reader: &impl Reader, key: &PublicKey) -> Result<ReplayWindow, StateError> {
    Ok(reader.get(&keys::replay_window(key))?.unwrap_or_default())
}
