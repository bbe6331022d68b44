//! Approvals of plans: recorded, withdrawn, counted, and the start that they allow.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::APPROVALS_MAX;
use lamplighter_types::{Approval, Fact, Hash, Id, Notification, Role, Rollout, RolloutStatus};

use super::plan::{find, is_lapsed, is_open, require};
use super::unit::RolloutUnit;
use super::{RolloutsError, keys, slots};
use crate::{Context, ExecutionError, firmware, governance, users};

/// The approvals of a plan that count now, and those that it needs, at least one.
fn count(
    overlay: &Overlay,
    rollout: &Rollout,
    approvals: &[Approval],
    time_ms: u64,
) -> Result<(usize, usize), StateError> {
    let policy = governance::policies(overlay)?.approvals.rollouts;
    let scopes = &rollout.districts;
    let live = users::live_approvals(overlay, approvals, Role::Approver, scopes, time_ms, &policy)?;
    Ok((live, usize::from(policy.approvals.max(1))))
}

/// Requires that enough approvals of the plan count now.
pub(super) fn require_approved(
    overlay: &Overlay,
    rollout: &Rollout,
    time_ms: u64,
) -> Result<(), ExecutionError> {
    let (got, wanted) = count(overlay, rollout, &rollout.approvals, time_ms)?;
    if got >= wanted {
        return Ok(());
    }
    let after_errors = rollout.status == RolloutStatus::PausedByErrors;
    Err(match after_errors {
        true => RolloutsError::NotApprovedAgain { got, wanted }.into(),
        false => RolloutsError::NotApproved { got, wanted }.into(),
    })
}

/// Approves a plan. One that is approved, or paused, takes approvals as well: they replace those
/// that expire.
pub fn approve(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    looked_at: &Hash,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut rollout = find(overlay, name)?;
    require(context, Role::Approver, &rollout.districts)?;
    require_approvable(overlay, context, &rollout, looked_at)?;
    let (by, time_ms) = (&context.sender.account, context.block.time_ms);
    // The newest approval of an account replaces its earlier one, which may count no more.
    rollout.approvals.retain(|approval| approval.account != *by);
    if rollout.approvals.len() >= APPROVALS_MAX {
        drop_dead(overlay, &mut rollout, time_ms)?;
    }
    if rollout.approvals.len() >= APPROVALS_MAX {
        return Err(RolloutsError::TooManyApprovals.into());
    }
    rollout.approvals.push(context.approval());
    let (live, wanted) = count(overlay, &rollout, &rollout.approvals, time_ms)?;
    if live >= wanted && rollout.status == RolloutStatus::PendingApproval {
        rollout.status = RolloutStatus::Approved;
        rollout.status_height = context.block.height;
    }
    overlay.put(&keys::rollout(name), &rollout);
    Ok(vec![Notification::city(Fact::RolloutApproved {
        rollout: name.clone(),
        by: by.clone(),
    })])
}

fn require_approvable(
    overlay: &Overlay,
    context: &Context,
    rollout: &Rollout,
    looked_at: &Hash,
) -> Result<(), ExecutionError> {
    use RolloutStatus::*;
    let (by, time_ms) = (&context.sender.account, context.block.time_ms);
    match rollout.status {
        PendingApproval | Approved | Paused | PausedByErrors => {}
        status @ (Running | Stopping | Stopped | Finished) => {
            return Err(RolloutsError::Status(status).into());
        }
    }
    if *by == rollout.author {
        return Err(RolloutsError::SelfApproval(by.clone()).into());
    }
    let (live, wanted) = count(overlay, rollout, &rollout.approvals, time_ms)?;
    let of_sender = |approval: &&Approval| approval.account == *by;
    let earlier: Vec<_> = rollout
        .approvals
        .iter()
        .filter(of_sender)
        .cloned()
        .collect();
    let (counts, _) = count(overlay, rollout, &earlier, time_ms)?;
    if counts > 0 && live < wanted {
        return Err(RolloutsError::Approved(by.clone()).into());
    }
    if rollout.plan_digest != *looked_at {
        let planned = rollout.plan_digest;
        return Err(RolloutsError::OtherPlan {
            planned,
            looked_at: *looked_at,
        }
        .into());
    }
    if is_open(rollout.status) {
        let release = &rollout.plan.release;
        firmware::installable(overlay, release, &rollout.districts, time_ms)?;
        require_in_time(overlay, rollout, time_ms)?;
    }
    Ok(())
}

fn require_in_time(
    overlay: &Overlay,
    rollout: &Rollout,
    time_ms: u64,
) -> Result<(), ExecutionError> {
    let retention = governance::policies(overlay)?.retention;
    if is_lapsed(rollout, time_ms, &retention) {
        return Err(RolloutsError::Lapsed(rollout.plan.rollout.clone()).into());
    }
    Ok(())
}

/// Drops the approvals that do not count.
fn drop_dead(overlay: &Overlay, rollout: &mut Rollout, time_ms: u64) -> Result<(), StateError> {
    let mut live = Vec::with_capacity(rollout.approvals.len());
    for approval in &rollout.approvals {
        let (counts, _) = count(overlay, rollout, std::slice::from_ref(approval), time_ms)?;
        if counts > 0 {
            live.push(approval.clone());
        }
    }
    rollout.approvals = live;
    Ok(())
}

/// Withdraws the sender's approval. What has begun goes on; nothing new begins without it.
pub fn withdraw(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut rollout = find(overlay, name)?;
    let by = &context.sender.account;
    let before = rollout.approvals.len();
    rollout.approvals.retain(|approval| approval.account != *by);
    if rollout.approvals.len() == before {
        return Err(RolloutsError::NoApproval(by.clone()).into());
    }
    let time_ms = context.block.time_ms;
    let (live, wanted) = count(overlay, &rollout, &rollout.approvals, time_ms)?;
    if live < wanted && rollout.status == RolloutStatus::Approved {
        rollout.status = RolloutStatus::PendingApproval;
        rollout.status_height = context.block.height;
    }
    overlay.put(&keys::rollout(name), &rollout);
    Ok(vec![Notification::city(Fact::RolloutApprovalWithdrawn {
        rollout: name.clone(),
        by: by.clone(),
    })])
}

pub fn start(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    require(context, Role::Operator, &rollout.districts)?;
    if rollout.status != RolloutStatus::Approved {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    let time_ms = context.block.time_ms;
    require_in_time(overlay, &rollout, time_ms)?;
    require_approved(overlay, &rollout, time_ms)?;
    firmware::installable(overlay, &rollout.plan.release, &rollout.districts, time_ms)?;
    slots::require_free(overlay, &rollout.districts)?;
    let mut unit = RolloutUnit::new(overlay, context.block);
    unit.edit(name)?.started_ms = Some(time_ms);
    unit.set_status(name, RolloutStatus::Running)?;
    unit.notify(Notification::city(Fact::RolloutStarted {
        rollout: name.clone(),
    }));
    Ok(unit.commit()?)
}
