//! The approvals that count at an instant.

use std::borrow::Cow;
use std::collections::BTreeSet;

use lamplighter_state::StateError;
use lamplighter_types::limits::APPROVALS_MAX;
use lamplighter_types::{Account, Approval, ApprovalPolicy, Id, Role, Scope};

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

/// The rule by which the approvals of one release or plan count at a time.
pub struct ApprovalRule<'a> {
    pub role: Role,
    /// What an approver's role has to cover.
    pub scopes: Cow<'a, [Scope]>,
    pub policy: ApprovalPolicy,
    pub time_ms: u64,
}

impl ApprovalRule<'_> {
    /// The rule without its time of expiry: approvals die of what is taken from who gave them, and
    /// of nothing else.
    #[must_use]
    pub fn without_expiry(self) -> Self {
        let policy = ApprovalPolicy {
            expires_ms: u64::MAX,
            ..self.policy
        };
        Self { policy, ..self }
    }

    /// The approvals that count now, and those that are needed, at least one.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn count(
        &self,
        reader: &impl Reader,
        approvals: &[Approval],
    ) -> Result<(usize, usize), StateError> {
        let (role, scopes) = (self.role, &self.scopes[..]);
        let live = live_approvals(reader, approvals, role, scopes, self.time_ms, &self.policy)?;
        Ok((live, usize::from(self.policy.approvals.max(1))))
    }

    /// True if enough approvals count now.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn is_met(&self, reader: &impl Reader, approvals: &[Approval]) -> Result<bool, StateError> {
        let (live, wanted) = self.count(reader, approvals)?;
        Ok(live >= wanted)
    }

    /// True if the approval of an account counts already, while those of others are missing.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn waits_for_others(
        &self,
        reader: &impl Reader,
        approvals: &[Approval],
        account: &Id,
    ) -> Result<bool, StateError> {
        let earlier = approvals
            .iter()
            .filter(|approval| approval.account == *account);
        let earlier: Vec<Approval> = earlier.cloned().collect();
        let (counts, _) = self.count(reader, &earlier)?;
        Ok(counts > 0 && !self.is_met(reader, approvals)?)
    }

    /// Adds an approval, which replaces an earlier one of its account; returns false if there is no
    /// space. If there is none at first, the approvals that do not count leave. An account may have
    /// to wait until its approval counts (as a newcomer): it then has to approve again.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn add(
        &self,
        reader: &impl Reader,
        approvals: &mut Vec<Approval>,
        new: Approval,
    ) -> Result<bool, StateError> {
        withdraw_approval(approvals, &new.account);
        if approvals.len() >= APPROVALS_MAX {
            let mut live = Vec::with_capacity(approvals.len());
            for approval in approvals.drain(..) {
                let (counts, _) = self.count(reader, std::slice::from_ref(&approval))?;
                live.extend((counts > 0).then_some(approval));
            }
            *approvals = live;
        }
        let has_space = approvals.len() < APPROVALS_MAX;
        if has_space {
            approvals.push(new);
        }
        Ok(has_space)
    }
}

/// Removes the approval of an account; returns whether there was one.
pub fn withdraw_approval(approvals: &mut Vec<Approval>, account: &Id) -> bool {
    let before = approvals.len();
    approvals.retain(|approval| approval.account != *account);
    approvals.len() < before
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
