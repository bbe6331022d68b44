//! Recovery of an account that lost its keys: administrators vote for a new key.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::APPROVALS_MAX;
use lamplighter_types::{Account, Fact, Id, Notification, PublicKey, Recovery, Role};

use super::accounts::{self, changeable_account};
use super::{UsersError, has_live_role, keys};
use crate::{Context, ExecutionError, Reader, governance};

/// Number of vote records deleted when a recovery is carried out. Votes for more different keys of
/// one account stay, where they do no harm.
const VOTES_CLEARED_MAX: usize = 64;

pub(super) fn recover(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    new_key: &PublicKey,
) -> Result<Vec<Notification>, ExecutionError> {
    let account = changeable_account(overlay, name)?;
    context.require(Role::Administrator, &account.district)?;
    if account.account == context.sender.account {
        return Err(UsersError::SelfRecovery(account.account).into());
    }
    accounts::require_new_key(overlay, new_key)?;
    let recovery = vote(overlay, context, &account, new_key)?;
    let votes = live_votes(overlay, &account, &recovery)?;
    let counted = Fact::RecoveryVoted {
        account: account.account.clone(),
        votes,
    };
    let mut notifications = vec![Notification::city(counted)];
    let policies = governance::policies(overlay)?;
    if votes >= u32::from(policies.approvals.recovery.approvals) {
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
        notifications.push(Notification::city(Fact::KeyRevoked {
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
    notifications.push(Notification::city(Fact::KeyAdded {
        account: name,
        key: *new_key,
    }));
    Ok(notifications)
}
