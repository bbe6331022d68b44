//! The approvals that count at an instant.

use std::collections::BTreeSet;

use lamplighter_state::StateError;
use lamplighter_types::{Account, Approval, ApprovalPolicy, Role, Scope};

use super::{UsersError, account_of_key};
use crate::{Context, ExecutionError, Reader, governance};

/// The number of accounts whose approval counts at `time_ms`. A recorded approval counts as long as
///
/// - it is younger than the policy's time of expiry;
/// - the key that gave it is in use, by the account that gave it;
/// - the account is not disabled, and has `role` for all of each of `scopes` (at least one) by
///   grants that are older than the waiting time of newcomers.
///
/// So the count can fall and rise between two looks: whoever acts on it asks again.
///
/// # Errors
/// The state can't be read, or no genesis was installed.
pub fn live_approvals(
    reader: &impl Reader,
    approvals: &[Approval],
    role: Role,
    scopes: &[Scope],
    time_ms: u64,
    policy: &ApprovalPolicy,
) -> Result<usize, StateError> {
    let wait_ms = governance::policies(reader)?.newcomer_wait_ms;
    let mut counted = BTreeSet::new();
    for Approval {
        account: name,
        key,
        at_ms,
    } in approvals
    {
        if time_ms.saturating_sub(*at_ms) >= policy.expires_ms {
            continue;
        }
        let holder = account_of_key(reader, key)?.filter(|holder| holder.account == *name);
        let may = |a: &Account| {
            let covered = |scope| a.may_approve(role, scope, time_ms, wait_ms);
            !scopes.is_empty() && scopes.iter().all(covered)
        };
        if holder.is_some_and(|holder| may(&holder)) {
            counted.insert(name);
        }
    }
    Ok(counted.len())
}

/// Requires that the sender's approval by `role` counts now, for all of each of `scopes`.
///
/// A newcomer is refused, so that no approvals are laid up that begin to count at night.
///
/// # Errors
/// The sender lacks the role, or has it for too short a time.
pub fn require_approver(
    reader: &impl Reader,
    context: &Context,
    role: Role,
    scopes: &[Scope],
) -> Result<(), ExecutionError> {
    let wait_ms = governance::policies(reader)?.newcomer_wait_ms;
    let sender = &context.sender;
    for scope in scopes {
        context.require(role, scope)?;
        if !sender.may_approve(role, scope, context.block.time_ms, wait_ms) {
            let account = sender.account.clone();
            return Err(UsersError::Newcomer { account, role }.into());
        }
    }
    Ok(())
}
