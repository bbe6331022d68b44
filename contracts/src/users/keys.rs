//! State keys of accounts.

use lamplighter_state::Key;
use lamplighter_types::{Account, Id, KeyRecord, Organization, PublicKey, ReplayWindow};

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

/// Accounts that can approve releases now.
pub fn approvers() -> Key<Id> {
    Key::table(Table::Approver as u8)
}

pub fn approver(account: &Id) -> Key<Id> {
    approvers().id(account)
}

/// Accounts that can administer the whole city now.
pub fn administrators() -> Key<Id> {
    Key::table(Table::Administrator as u8)
}

pub fn administrator(account: &Id) -> Key<Id> {
    administrators().id(account)
}
