//! Storage of accounts and keys, with the records that must agree with them.

use lamplighter_state::{Key, Overlay, StateError};
use lamplighter_types::limits::HOLDERS_MAX;
use lamplighter_types::{
    Account, AccountKey, AccountKind, Id, KeyPurpose, KeyRecord, PublicKey, Role, Scope, Signature,
};

use super::{UsersError, keys};
use crate::{BlockContext, ExecutionError, Reader, governance};

/// The roles whose holders for the whole city are listed and counted.
const COUNTED: [Role; 2] = [Role::Administrator, Role::Approver];

/// The people who decided on a change.
#[derive(Clone, Copy)]
pub(crate) enum Deciders<'a> {
    /// One account by itself.
    One(&'a Id),
    /// As many administrators as the policy says.
    Several,
}

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

/// Stores a new account with its keys.
pub(crate) fn insert(overlay: &mut Overlay, account: &Account) -> Result<(), ExecutionError> {
    let name = &account.account;
    if overlay.exists(&keys::account(name))? {
        return Err(UsersError::AccountExists(name.clone()).into());
    }
    for AccountKey { key, label: _ } in &account.keys {
        require_new_key(overlay, key)?;
        introduce_key(overlay, name, key);
    }
    store(overlay, account)
}

/// Stores a changed account.
///
/// # Errors
/// [`UsersError::TooFewLeft`] if the account was one of those who can restore what is taken away
/// here, and too few of them would be left.
pub(crate) fn update(
    overlay: &mut Overlay,
    block: &BlockContext,
    account: &Account,
    by: Deciders<'_>,
) -> Result<(), ExecutionError> {
    for role in COUNTED {
        if overlay.exists(&listed(role, &account.account))? && !holds(account, role) {
            require_enough_left(overlay, block, role, &account.account, by)?;
        }
    }
    store(overlay, account)
}

/// Requires that the others can still do what the policies ask for.
///
/// Where one account decides, it is not counted itself: the others must be able to undo the change
/// without it. Otherwise one stolen key of three administrators could disable the second, and the
/// third could do nothing without the thief. Where several decide, administrators must be left as
/// many as a policy asks for, because nobody could appoint more of them. Approvers they can
/// appoint; and an approver may always stop its own account, e.g. after a theft.
fn require_enough_left(
    overlay: &Overlay,
    block: &BlockContext,
    role: Role,
    leaves: &Id,
    by: Deciders<'_>,
) -> Result<(), ExecutionError> {
    let approvals = governance::policies(overlay)?.approvals;
    let needed = match (role, by) {
        (Role::Administrator, _) => approvals.administrators(),
        (Role::Approver, Deciders::One(actor)) if actor != leaves => approvals.approvers(),
        _ => return Ok(()),
    };
    let is_counted = |name: &Id| match by {
        Deciders::One(actor) => name != leaves && name != actor,
        Deciders::Several => name != leaves,
    };
    let counted = holders(overlay, role, block.time_ms)?;
    if !counted.contains(leaves) {
        // A newcomer is part of no quorum yet; the wait is there so that one person can stop it.
        return Ok(());
    }
    let left = counted.iter().filter(|name| is_counted(name)).count();
    if left < usize::from(needed) {
        return Err(UsersError::TooFewLeft { role, left, needed }.into());
    }
    Ok(())
}

/// The accounts whose approval by `role` for the whole city counts at `time_ms`; `role` is one of
/// those that are listed.
pub(crate) fn holders(
    reader: &impl Reader,
    role: Role,
    time_ms: u64,
) -> Result<Vec<Id>, StateError> {
    let wait_ms = governance::policies(reader)?.newcomer_wait_ms;
    let mut mature = Vec::new();
    for name in reader.page(&list(role), None, HOLDERS_MAX)? {
        let account = super::account(reader, &name)?;
        let may = |a: &Account| a.may_approve(role, &Scope::city(), time_ms, wait_ms);
        if account.is_some_and(|account| may(&account)) {
            mature.push(name);
        }
    }
    Ok(mature)
}

fn list(role: Role) -> Key<Id> {
    match role {
        Role::Approver => keys::approvers(),
        _ => keys::administrators(),
    }
}

fn listed(role: Role, account: &Id) -> Key<Id> {
    list(role).id(account)
}

fn store(overlay: &mut Overlay, account: &Account) -> Result<(), ExecutionError> {
    for role in COUNTED {
        let listed = listed(role, &account.account);
        match (overlay.exists(&listed)?, holds(account, role)) {
            (false, true) => {
                if Reader::page(overlay, &list(role), None, HOLDERS_MAX)?.len() >= HOLDERS_MAX {
                    return Err(UsersError::TooManyHolders(role).into());
                }
                overlay.put(&listed, &account.account);
            }
            (true, false) => overlay.delete(&listed),
            (true, true) | (false, false) => {}
        }
    }
    overlay.put(&keys::account(&account.account), account);
    Ok(())
}

fn holds(account: &Account, role: Role) -> bool {
    let able = !account.disabled && !account.keys.is_empty();
    able && account.has_role(role, &Scope::city())
}

/// Requires an acceptable key that no account has or had.
fn require_new_key(overlay: &Overlay, key: &PublicKey) -> Result<(), ExecutionError> {
    if !key.is_acceptable() {
        return Err(UsersError::WeakKey(*key).into());
    }
    if overlay.exists(&keys::key(key))? {
        return Err(UsersError::KeyTaken(*key).into());
    }
    Ok(())
}

/// Requires a new key, and the proof that its holder wants it for `account`.
pub(crate) fn require_possession(
    overlay: &Overlay,
    block: &BlockContext,
    purpose: KeyPurpose,
    account: &Id,
    key: &PublicKey,
    proof: &Signature,
) -> Result<(), ExecutionError> {
    require_new_key(overlay, key)?;
    purpose
        .verify(&block.chain_id, account, key, proof)
        .map_err(|_| UsersError::WrongProof)?;
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
