//! Keys of accounts: rotation, revocation, recovery.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::APPROVALS_MAX;
use lamplighter_types::report::key_rotation_message;
use lamplighter_types::{Account, Fact, Id, Notification, PublicKey, Recovery, Role, Signature};

use super::execute::governable;
use super::{UsersError, accounts, has_live_role, keys};
use crate::{Context, ExecutionError, Reader, governance, in_city};

/// Records of votes deleted when a recovery is carried out: more than so many different keys for
/// one account are left behind, where they do no harm.
const VOTES_CLEARED_MAX: usize = 64;

pub(super) fn rotate(
    overlay: &mut Overlay,
    context: &Context,
    new_key: &PublicKey,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut account = governable(overlay, &context.sender.account)?;
    accounts::demand_new_key(overlay, new_key)?;
    let message = key_rotation_message(&context.chain_id, &account.account, &context.key);
    new_key
        .verify(&message, proof)
        .map_err(UsersError::WrongProof)?;
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
        in_city(Fact::KeyAdded {
            account: name.clone(),
            key: *new_key,
        }),
        in_city(Fact::KeyRevoked {
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
    let mut account = governable(overlay, name)?;
    if context.sender.account != account.account
        && !context
            .sender
            .has_role(Role::Administrator, &account.district)
    {
        context.demand(Role::Security, &account.district)?;
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
    Ok(vec![in_city(Fact::KeyRevoked {
        account: account.account,
        key: *key,
    })])
}

pub(super) fn recover(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    new_key: &PublicKey,
) -> Result<Vec<Notification>, ExecutionError> {
    let account = governable(overlay, name)?;
    context.demand(Role::Administrator, &account.district)?;
    if account.account == context.sender.account {
        return Err(UsersError::OwnRecovery(account.account).into());
    }
    accounts::demand_new_key(overlay, new_key)?;
    let recovery = vote(overlay, context, &account, new_key)?;
    let votes = live_votes(overlay, &account, &recovery)?;
    let counted = Fact::RecoveryVoted {
        account: account.account.clone(),
        votes,
    };
    let mut notifications = vec![in_city(counted)];
    let policies = governance::policies(overlay)?;
    if votes >= u32::from(policies.recovery_approvals) {
        notifications.extend(replace_keys(overlay, account, new_key)?);
    } else {
        overlay.put(&keys::recovery(name, new_key), &recovery);
    }
    Ok(notifications)
}

fn vote(
    overlay: &Overlay,
    context: &Context,
    account: &Account,
    new_key: &PublicKey,
) -> Result<Recovery, ExecutionError> {
    let stored = overlay.get(&keys::recovery(&account.account, new_key))?;
    let mut recovery = stored.unwrap_or_else(|| Recovery {
        account: account.account.clone(),
        new_key: *new_key,
        votes: Vec::new(),
    });
    let voter = &context.sender.account;
    if recovery.votes.contains(voter) {
        return Err(UsersError::Voted(voter.clone()).into());
    }
    if recovery.votes.len() >= APPROVALS_MAX {
        return Err(UsersError::TooManyVotes.into());
    }
    recovery.votes.push(voter.clone());
    Ok(recovery)
}

fn live_votes(
    overlay: &Overlay,
    account: &Account,
    recovery: &Recovery,
) -> Result<u32, StateError> {
    let mut votes = 0;
    for voter in &recovery.votes {
        if has_live_role(overlay, voter, Role::Administrator, &account.district)? {
            votes += 1;
        }
    }
    Ok(votes)
}

fn replace_keys(
    overlay: &mut Overlay,
    mut account: Account,
    new_key: &PublicKey,
) -> Result<Vec<Notification>, ExecutionError> {
    let name = account.account.clone();
    let old = std::mem::replace(&mut account.keys, vec![*new_key]);
    let mut notifications = Vec::new();
    for key in old {
        accounts::retire_key(overlay, &name, &key);
        notifications.push(in_city(Fact::KeyRevoked {
            account: name.clone(),
            key,
        }));
    }
    accounts::introduce_key(overlay, &name, new_key);
    accounts::update(overlay, &account)?;
    let votes = Reader::scan(overlay, &keys::recoveries(&name), None, VOTES_CLEARED_MAX)?;
    for (key, _) in votes {
        overlay.delete(&key);
    }
    notifications.push(in_city(Fact::KeyAdded {
        account: name,
        key: *new_key,
    }));
    Ok(notifications)
}
