//! State keys of accounts.

use lamplighter_state::Key;
use lamplighter_types::{Account, Id, KeyRecord, Organization, PublicKey, Recovery, ReplayWindow};

use crate::tables::Table;

pub fn organizations() -> Key<Organization> {
    Key::table(Table::Organization as u8)
}

pub fn organization(organization: &Id) -> Key<Organization> {
    organizations().id(organization)
}

pub fn accounts() -> Key<Account> {
    Key::table(Table::Account as u8)
}

pub fn account(account: &Id) -> Key<Account> {
    accounts().id(account)
}

pub fn key(key: &PublicKey) -> Key<KeyRecord> {
    Key::table(Table::Key as u8).key(key)
}

pub fn replay_window(key: &PublicKey) -> Key<ReplayWindow> {
    Key::table(Table::ReplayWindow as u8).key(key)
}

/// Votes to recover an account, by the new key that they are for.
pub fn recoveries(account: &Id) -> Key<Recovery> {
    Key::table(Table::Recovery as u8).id(account)
}

pub fn recovery(account: &Id, new_key: &PublicKey) -> Key<Recovery> {
    recoveries(account).key(new_key)
}

/// Accounts that can administer the whole city now.
pub fn administrators() -> Key<Id> {
    Key::table(Table::Administrator as u8)
}

pub fn administrator(account: &Id) -> Key<Id> {
    administrators().id(account)
}
