//! Organizations, accounts, keys and roles.
//!
//! An account is a user, a gateway or a node, and acts with its keys. Its roles say what it may do,
//! each within a district and those below it. A gateway has no roles: its rights follow from the
//! devices assigned to it. Governance makes and disables the accounts of nodes, so nothing here
//! changes them.
//!
//! One account carries out:
//!
//! | action | who | refused |
//! |---|---|---|
//! | register an organization | administrator of the whole city | name taken |
//! | register a user, who has no role | administrator of the whole city | name or key taken, weak key, wrong proof |
//! | register a gateway | administrator of its district | the same |
//! | grant, revoke the role of an operator, auditor, relay | administrator of the role's district | not a user; a grant to itself |
//! | add a key | the account itself | key taken, weak key, wrong proof, [`KEYS_PER_ACCOUNT_MAX`](lamplighter_types::limits::KEYS_PER_ACCOUNT_MAX) |
//! | rotate a key | the account itself, with the old key | key taken, weak key, wrong proof |
//! | revoke a key | the account itself; administrator or security of its district | too few would be left |
//! | disable | administrator of its district | too few would be left |
//!
//! What gives, takes away or restores *power*
//! ([`Role::is_power`](lamplighter_types::Role::is_power)) is a proposal that several
//! administrators approve ([`governance`](crate::governance)): the roles of administrators,
//! approvers, vendors and security, the enabling and the recovery of accounts.
//!
//! A user's district is the whole city. A key belongs to one account for ever: a revoked key is
//! never registered again. Whatever introduces a key brings a *proof of possession*, a signature of
//! that key for that account of this ledger, so that nobody can take the key of somebody else.
//!
//! *Too few would be left*: an action of one account that takes the power of an administrator or
//! approver of the whole city leaves as many others, the actor not counted, as the policies ask
//! for. So one person can stop another, and never all who could undo it.

pub(crate) mod accounts;
mod approvals;
mod error;
mod execute;
mod key_changes;
pub mod keys;
pub(crate) mod lifecycle;
mod read;
pub(crate) mod registration;
pub(crate) mod roles;
#[cfg(test)]
mod tests;

pub use approvals::{ApprovalRule, live_approvals, require_approver, withdraw_approval};
pub use error::UsersError;
pub use execute::{check, execute};
pub(crate) use execute::{check_key, check_user};
pub use read::*;
