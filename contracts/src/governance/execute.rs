//! Proposals: made, approved, withdrawn.

use lamplighter_state::Overlay;
use lamplighter_types::limits::{APPROVALS_MAX, CHANGES_MAX};
use lamplighter_types::{
    Approval, Fact, GovernanceAction, GovernanceChange, Hash, Id, Notification, Proposal, Role,
};

use super::membership::Author;
use super::{GovernanceError, Requirement, changes, keys, proposals};
use crate::users::{self, UsersError};
use crate::{Context, ExecutionError, Refusal, validate};

/// Checks shape and size.
pub fn check(action: &GovernanceAction) -> Result<(), Refusal> {
    match action {
        GovernanceAction::Propose {
            proposal: _,
            changes,
        } => {
            validate::list("changes", changes, CHANGES_MAX).map_err(Refusal::of)?;
            changes.iter().try_for_each(changes::check)
        }
        GovernanceAction::Approve {
            proposal: _,
            changes: _,
        }
        | GovernanceAction::Withdraw { proposal: _ } => Ok(()),
    }
}

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &GovernanceAction,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        GovernanceAction::Propose { proposal, changes } => {
            propose(overlay, context, proposal, changes)
        }
        GovernanceAction::Approve { proposal, changes } => {
            approve(overlay, context, proposal, changes)
        }
        GovernanceAction::Withdraw { proposal } => withdraw(overlay, context, proposal),
    }
}

fn propose(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    changes: &[GovernanceChange],
) -> Result<Vec<Notification>, ExecutionError> {
    let requirement = Requirement::of(overlay, changes)?;
    users::require_approver(overlay, context, Role::Administrator, &requirement.scopes)?;
    let author = &context.sender.account;
    proposals::require_room(overlay, name, author)?;
    let time_ms = context.block.time_ms;
    let proposal = Proposal {
        proposal: name.clone(),
        changes: changes.to_vec(),
        digest: GovernanceChange::digest(changes),
        author: author.clone(),
        approvals: vec![context.approval()],
        proposed_height: context.block.height,
        expires_ms: time_ms.saturating_add(requirement.policy.expires_ms),
    };
    let proposed = Fact::ChangeProposed {
        proposal: name.clone(),
    };
    conclude(overlay, context, &proposal, &requirement, proposed)
}

fn approve(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    digest: &Hash,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut proposal = proposals::open(overlay, &context.block, name)?;
    let requirement = Requirement::of(overlay, &proposal.changes)?;
    users::require_approver(overlay, context, Role::Administrator, &requirement.scopes)?;
    let by = context.sender.account.clone();
    if proposal.digest != *digest {
        let (proposal, digest) = (name.clone(), proposal.digest);
        return Err(GovernanceError::OtherChange { proposal, digest }.into());
    }
    if requirement.excluded.contains(&by) {
        return Err(GovernanceError::Interested(by).into());
    }
    // The approval by a key that is no longer in use is replaced.
    let is_same = |a: &Approval| a.account == by && a.key == context.key;
    if proposal.approvals.iter().any(is_same) {
        let proposal = name.clone();
        return Err(GovernanceError::Approved {
            account: by,
            proposal,
        }
        .into());
    }
    proposal.approvals.retain(|approval| approval.account != by);
    if proposal.approvals.len() >= APPROVALS_MAX {
        return Err(GovernanceError::TooManyApprovals.into());
    }
    proposal.approvals.push(context.approval());
    let approved = Fact::ChangeApproved {
        proposal: name.clone(),
        by,
    };
    conclude(overlay, context, &proposal, &requirement, approved)
}

/// Carries a proposal out if enough administrators have approved it; otherwise stores it.
///
/// The policies and the holders of roles are those before its changes. If one of the changes can't
/// be made, this action is refused and nothing has changed: the caller drops what was written.
fn conclude(
    overlay: &mut Overlay,
    context: &Context,
    proposal: &Proposal,
    requirement: &Requirement,
    fact: Fact,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut notifications = vec![Notification::city(fact)];
    let live = requirement.count(overlay, proposal, context.block.time_ms)?;
    if live < usize::from(requirement.policy.approvals) {
        proposals::store(overlay, proposal);
        return Ok(notifications);
    }
    proposals::remove(overlay, proposal);
    let author = users::account(overlay, &proposal.author)?
        .ok_or_else(|| UsersError::UnknownAccount(proposal.author.clone()))?;
    let author = Author {
        organization: &author.organization,
        block: &context.block,
    };
    for change in &proposal.changes {
        notifications.extend(changes::carry_out(overlay, &author, change)?);
    }
    let proposal = proposal.proposal.clone();
    let carried_out = Fact::ProposalCarriedOut { proposal };
    notifications.push(Notification::city(carried_out));
    Ok(notifications)
}

/// Takes the sender's approval back, whatever its role is by now. The author ends the proposal by
/// it.
fn withdraw(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let Some(mut proposal) = overlay.get(&keys::proposal(name))? else {
        return Err(GovernanceError::UnknownProposal(name.clone()).into());
    };
    let by = &context.sender.account;
    if proposal.author == *by {
        proposals::remove(overlay, &proposal);
        let proposal = name.clone();
        let withdrawn = Fact::ProposalWithdrawn { proposal };
        return Ok(vec![Notification::city(withdrawn)]);
    }
    let before = proposal.approvals.len();
    proposal
        .approvals
        .retain(|approval| approval.account != *by);
    if proposal.approvals.len() == before {
        let (account, proposal) = (by.clone(), name.clone());
        return Err(GovernanceError::NotApproved { account, proposal }.into());
    }
    proposals::store(overlay, &proposal);
    let (proposal, by) = (name.clone(), by.clone());
    let withdrawn = Fact::ApprovalWithdrawn { proposal, by };
    Ok(vec![Notification::city(withdrawn)])
}
