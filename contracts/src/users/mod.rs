//! Organizations, accounts, keys and roles.
//!
//! An account is a user, a gateway or a node, and acts with its keys. Its roles say what it may do,
//! each within a district and those below it. A gateway has no roles: its rights follow from the
//! devices assigned to it. Governance makes and disables the accounts of nodes, so nothing here
//! changes them.
//!
//! | action | who | refused |
//! |---|---|---|
//! | register an organization | administrator of the whole city | name taken |
//! | register a user | administrator of the whole city | name or key taken, weak key |
//! | register a gateway | administrator of its district | the same |
//! | grant, revoke a role | administrator of the role's district | not a user; revoking the last administrator |
//! | rotate a key | the account itself, with the old key and a signature of the new one | key taken, weak key, wrong proof |
//! | revoke a key | the account itself; administrator or security of its district | last key of the last administrator |
//! | disable, enable | administrator of its district | the last administrator |
//! | recover | administrators of its district, as many as the policy says, each voting for the same new key | own account |
//!
//! A user's district is the whole city. A key belongs to one account for ever: a revoked key is
//! never registered again. The *last administrator* is the only account that could still administer
//! the whole city: it is not disabled, has a key, and has the role for the empty scope.
//!
//! Votes for a recovery are counted with each new one; only those of accounts that could still vote
//! count. A recovery revokes all keys that the account had.

pub(crate) mod accounts;
mod approvals;
mod error;
mod execute;
mod key_changes;
pub mod keys;
mod lifecycle;
mod read;
mod recovery;
mod registration;
mod roles;
#[cfg(test)]
mod tests;

pub use approvals::live_approvals;
pub use error::UsersError;
pub use execute::{check, execute};
pub use read::*;
