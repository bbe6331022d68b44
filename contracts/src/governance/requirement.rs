//! The approvals that a proposal needs: how many, by which administrators, within which time.

use std::collections::BTreeSet;

use lamplighter_state::StateError;
use lamplighter_types::{
    Approval, ApprovalPolicies, ApprovalPolicy, GovernanceChange, Id, Policies, Proposal, Role,
    Scope,
};

use super::policies;
use crate::{Reader, devices, users};

/// The approvals without which a proposal is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The strictest of the policies under which its changes fall.
    pub policy: ApprovalPolicy,
    /// The places for which its approvers are administrators.
    pub scopes: Vec<Scope>,
    /// Accounts that get power by it, whose own approval does not count.
    pub excluded: BTreeSet<Id>,
}

impl Requirement {
    /// The requirement of `changes`, made under the policies in force now.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn of(reader: &impl Reader, changes: &[GovernanceChange]) -> Result<Self, StateError> {
        let in_force = policies(reader)?;
        let mut required = Vec::new();
        let (mut scopes, mut excluded) = (Vec::new(), BTreeSet::new());
        for change in changes {
            required.extend(policies_of(reader, &in_force, change)?);
            let scope = scope_of(reader, change)?;
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
            excluded.extend(subject_of(change).cloned());
        }
        let strictest = required.into_iter().reduce(ApprovalPolicy::strictest);
        Ok(Self {
            // A proposal has at least one change; the strictest of all would do as well.
            policy: strictest.unwrap_or(in_force.approvals.policies),
            scopes,
            excluded,
        })
    }

    /// The number of approvals of a proposal that count at `time_ms`.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn count(
        &self,
        reader: &impl Reader,
        proposal: &Proposal,
        time_ms: u64,
    ) -> Result<usize, StateError> {
        let is_other = |approval: &&Approval| !self.excluded.contains(&approval.account);
        let approvals = proposal.approvals.iter().filter(is_other);
        let approvals: Vec<_> = approvals.cloned().collect();
        let (role, policy) = (Role::Administrator, &self.policy);
        users::live_approvals(reader, &approvals, role, &self.scopes, time_ms, policy)
    }
}

/// The policies under which one change falls.
fn policies_of(
    reader: &impl Reader,
    in_force: &Policies,
    change: &GovernanceChange,
) -> Result<Vec<ApprovalPolicy>, StateError> {
    let approvals = &in_force.approvals;
    Ok(match change {
        GovernanceChange::AddValidator { .. }
        | GovernanceChange::RemoveValidator { .. }
        | GovernanceChange::AddObserver { .. }
        | GovernanceChange::RemoveObserver { .. } => vec![approvals.validators],
        GovernanceChange::SetPolicies { policies } => loosened(in_force, policies),
        GovernanceChange::SetProtocol { .. } => vec![approvals.policies],
        GovernanceChange::RegisterUser { .. }
        | GovernanceChange::Grant { .. }
        | GovernanceChange::Revoke { .. }
        | GovernanceChange::Disable { .. }
        | GovernanceChange::Enable { .. } => vec![approvals.power],
        GovernanceChange::Recover { account, .. } => {
            let account = users::account(reader, account)?;
            let has_power = account.is_some_and(|a| a.grants.iter().any(|g| g.role.is_power()));
            // Who recovers an account with power gets its power, as by a grant.
            match has_power {
                true => vec![approvals.recovery, approvals.power],
                false => vec![approvals.recovery],
            }
        }
        GovernanceChange::ResetDevice { .. }
        | GovernanceChange::ReplaceDeviceKey { .. }
        | GovernanceChange::ReuseHardware { .. } => vec![approvals.devices],
    })
}

/// The policies under which other policies fall: that of policies, and every one that becomes
/// another. Otherwise two people could make a change for which three are needed, by setting the
/// three to two first. The waiting time is part of all of them.
fn loosened(in_force: &Policies, next: &Policies) -> Vec<ApprovalPolicy> {
    let ApprovalPolicies { policies, .. } = in_force.approvals;
    let all_change = in_force.newcomer_wait_ms != next.newcomer_wait_ms;
    let pairs = in_force
        .approvals
        .named()
        .into_iter()
        .zip(next.approvals.named());
    let changed = pairs.filter(|((_, now), (_, then))| all_change || now != then);
    let changed = changed.map(|((_, now), _)| now);
    std::iter::once(policies).chain(changed).collect()
}

/// The place for which one has to be an administrator to approve a change.
fn scope_of(reader: &impl Reader, change: &GovernanceChange) -> Result<Scope, StateError> {
    Ok(match change {
        GovernanceChange::ResetDevice { device, .. }
        | GovernanceChange::ReplaceDeviceKey { device, .. }
        | GovernanceChange::ReuseHardware { device } => {
            let device = devices::device(reader, device)?;
            device.map_or_else(Scope::city, |device| device.district)
        }
        GovernanceChange::AddValidator { .. }
        | GovernanceChange::RemoveValidator { .. }
        | GovernanceChange::AddObserver { .. }
        | GovernanceChange::RemoveObserver { .. }
        | GovernanceChange::SetPolicies { .. }
        | GovernanceChange::SetProtocol { .. }
        | GovernanceChange::RegisterUser { .. }
        | GovernanceChange::Grant { .. }
        | GovernanceChange::Revoke { .. }
        | GovernanceChange::Disable { .. }
        | GovernanceChange::Enable { .. }
        | GovernanceChange::Recover { .. } => Scope::city(),
    })
}

/// The account that a change gives power to.
fn subject_of(change: &GovernanceChange) -> Option<&Id> {
    match change {
        GovernanceChange::Grant { account, .. }
        | GovernanceChange::Enable { account }
        | GovernanceChange::Recover { account, .. } => Some(account),
        GovernanceChange::AddValidator { .. }
        | GovernanceChange::RemoveValidator { .. }
        | GovernanceChange::AddObserver { .. }
        | GovernanceChange::RemoveObserver { .. }
        | GovernanceChange::SetPolicies { .. }
        | GovernanceChange::SetProtocol { .. }
        | GovernanceChange::RegisterUser { .. }
        | GovernanceChange::Revoke { .. }
        | GovernanceChange::Disable { .. }
        | GovernanceChange::ResetDevice { .. }
        | GovernanceChange::ReplaceDeviceKey { .. }
        | GovernanceChange::ReuseHardware { .. } => None,
    }
}
