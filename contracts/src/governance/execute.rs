//! Proposals: made, approved, carried out.

use lamplighter_state::Overlay;
use lamplighter_types::limits::{ADDRESS_BYTES_MAX, APPROVALS_MAX};
use lamplighter_types::{
    Fact, GovernanceAction, GovernanceChange, Hash, Id, Notification, Observer, Proposal, Protocol,
    Role, Scope, Validator, codec,
};

use super::{GovernanceError, keys, membership, policies, protocol};
use crate::users::{self, UsersError};
use crate::{Context, ExecutionError, validate};

/// Checks shape and size.
pub fn check(action: &GovernanceAction) -> Result<(), GovernanceError> {
    match action {
        GovernanceAction::Propose {
            proposal: _,
            change,
        } => check_change(change),
        GovernanceAction::Approve {
            proposal: _,
            change: _,
        } => Ok(()),
    }
}

fn check_change(change: &GovernanceChange) -> Result<(), GovernanceError> {
    match change {
        GovernanceChange::AddValidator { validator } => {
            let Validator {
                node,
                account: _,
                key: _,
                address,
            } = validator;
            validate::number("node", *node)?;
            check_address(address)
        }
        GovernanceChange::AddObserver { observer } => {
            let Observer {
                node,
                account: _,
                key: _,
                address,
            } = observer;
            validate::number("node", *node)?;
            check_address(address)
        }
        GovernanceChange::SetPolicies { policies } => policies
            .check()
            .map_err(|error| GovernanceError::Policies(error.to_string())),
        GovernanceChange::RemoveValidator { node: _ }
        | GovernanceChange::RemoveObserver { node: _ } => Ok(()),
        GovernanceChange::SetProtocol {
            version: _,
            from_height,
        } => Ok(validate::number("from_height", *from_height)?),
    }
}

/// Checks a `host:port`.
pub(crate) fn check_address(address: &str) -> Result<(), GovernanceError> {
    validate::name("address", address, ADDRESS_BYTES_MAX)?;
    if Validator::is_address(address) {
        Ok(())
    } else {
        Err(GovernanceError::Address(address.to_owned()))
    }
}

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &GovernanceAction,
) -> Result<Vec<Notification>, ExecutionError> {
    context.require(Role::Administrator, &Scope::city())?;
    match action {
        GovernanceAction::Propose { proposal, change } => {
            propose(overlay, context, proposal, change)
        }
        GovernanceAction::Approve { proposal, change } => {
            approve(overlay, context, proposal, change)
        }
    }
}

fn propose(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    change: &GovernanceChange,
) -> Result<Vec<Notification>, ExecutionError> {
    if overlay.exists(&keys::proposal(name))? {
        return Err(GovernanceError::ProposalExists(name.clone()).into());
    }
    let proposal = Proposal {
        proposal: name.clone(),
        change: change.clone(),
        digest: codec::digest(change),
        author: context.sender.account.clone(),
        approvals: vec![context.approval()],
        carried_out: false,
        proposed_height: context.block.height,
    };
    let proposed = Notification::city(Fact::ChangeProposed {
        proposal: name.clone(),
    });
    store_proposal(overlay, context, proposal, proposed)
}

fn approve(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    change: &Hash,
) -> Result<Vec<Notification>, ExecutionError> {
    let Some(mut proposal) = overlay.get(&keys::proposal(name))? else {
        return Err(GovernanceError::UnknownProposal(name.clone()).into());
    };
    let account = context.sender.account.clone();
    if proposal.carried_out {
        return Err(GovernanceError::CarriedOut(name.clone()).into());
    }
    if proposal.digest != *change {
        let digest = proposal.digest;
        return Err(GovernanceError::OtherChange {
            proposal: name.clone(),
            digest,
        }
        .into());
    }
    if proposal.approvals.iter().any(|a| a.account == account) {
        return Err(GovernanceError::Approved {
            account,
            proposal: name.clone(),
        }
        .into());
    }
    if proposal.approvals.len() >= APPROVALS_MAX {
        return Err(GovernanceError::TooManyApprovals.into());
    }
    proposal.approvals.push(context.approval());
    let approved = Notification::city(Fact::ChangeApproved {
        proposal: name.clone(),
        by: account,
    });
    store_proposal(overlay, context, proposal, approved)
}

/// Stores a proposal, and carries it out first if enough accounts have approved it.
fn store_proposal(
    overlay: &mut Overlay,
    context: &Context,
    mut proposal: Proposal,
    notification: Notification,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut notifications = vec![notification];
    let policy = policies(overlay)?.approvals.policies;
    let live = users::live_approvals(
        overlay,
        &proposal.approvals,
        Role::Administrator,
        &[Scope::city()],
        context.block.time_ms,
        &policy,
    )?;
    if live >= usize::from(policy.approvals) {
        notifications.extend(carry_out(overlay, context, &proposal)?);
        proposal.carried_out = true;
    }
    overlay.put(&keys::proposal(&proposal.proposal), &proposal);
    Ok(notifications)
}

fn carry_out(
    overlay: &mut Overlay,
    context: &Context,
    proposal: &Proposal,
) -> Result<Vec<Notification>, ExecutionError> {
    let author = users::account(overlay, &proposal.author)?
        .ok_or_else(|| UsersError::UnknownAccount(proposal.author.clone()))?;
    let organization = author.organization;
    match &proposal.change {
        GovernanceChange::AddValidator { validator } => {
            membership::add_validator(overlay, validator, &organization, context.block.height)
        }
        GovernanceChange::RemoveValidator { node } => membership::remove_validator(overlay, *node),
        GovernanceChange::AddObserver { observer } => {
            membership::add_observer(overlay, observer, &organization, context.block.height)
        }
        GovernanceChange::RemoveObserver { node } => membership::remove_observer(overlay, *node),
        GovernanceChange::SetPolicies { policies } => {
            overlay.put(&keys::policies(), policies);
            Ok(vec![Notification::city(Fact::PoliciesSet)])
        }
        GovernanceChange::SetProtocol {
            version,
            from_height,
        } => set_protocol(overlay, context, *version, *from_height),
    }
}

fn set_protocol(
    overlay: &mut Overlay,
    context: &Context,
    version: u32,
    from_height: u64,
) -> Result<Vec<Notification>, ExecutionError> {
    let Protocol {
        version: now,
        next: _,
    } = protocol(overlay)?;
    if version <= now {
        return Err(GovernanceError::OldProtocol(now).into());
    }
    if from_height <= context.block.height {
        return Err(GovernanceError::PastHeight(context.block.height).into());
    }
    let next = Some((version, from_height));
    overlay.put(&keys::protocol(), &Protocol { version: now, next });
    Ok(vec![Notification::city(Fact::ProtocolSet {
        version,
        from_height,
    })])
}
