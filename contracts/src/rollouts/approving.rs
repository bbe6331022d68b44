//! Approvals of plans: recorded, withdrawn, counted, and the start that they allow.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Fact, Hash, Id, Notification, Role, Rollout, RolloutStatus, Scope};

use super::plan::{find, is_lapsed, is_open, require};
use super::unit::RolloutUnit;
use super::{RolloutsError, groups, keys, slots};
use crate::users::ApprovalRule;
use crate::{Context, ExecutionError, Reader, firmware, governance, users};

/// The rule by which approvals of a plan for these districts count.
fn rule<'a>(
    reader: &impl Reader,
    districts: &'a [Scope],
    time_ms: u64,
) -> Result<ApprovalRule<'a>, StateError> {
    Ok(ApprovalRule {
        role: Role::Approver,
        scopes: districts.into(),
        policy: governance::policies(reader)?.approvals.rollouts,
        time_ms,
    })
}

/// True if enough of those that approved a plan could still do so, however long ago that was.
pub(super) fn stays_approved(
    reader: &impl Reader,
    rollout: &Rollout,
    time_ms: u64,
) -> Result<bool, StateError> {
    let rule = rule(reader, &rollout.districts, time_ms)?.without_expiry();
    rule.is_met(reader, &rollout.approvals)
}

/// Requires that enough approvals of the plan count now.
pub(super) fn require_approved(
    overlay: &Overlay,
    rollout: &Rollout,
    time_ms: u64,
) -> Result<(), ExecutionError> {
    let rule = rule(overlay, &rollout.districts, time_ms)?;
    let (got, wanted) = rule.count(overlay, &rollout.approvals)?;
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
    let rule = rule(overlay, &rollout.districts, time_ms)?;
    if !rule.add(overlay, &mut rollout.approvals, context.approval())? {
        return Err(RolloutsError::TooManyApprovals.into());
    }
    let is_met = rule.is_met(overlay, &rollout.approvals)?;
    if is_met && rollout.status == RolloutStatus::PendingApproval {
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
    let rule = rule(overlay, &rollout.districts, time_ms)?;
    if rule.waits_for_others(overlay, &rollout.approvals, by)? {
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

/// Withdraws the sender's approval. What has begun goes on; nothing new begins without it.
pub fn withdraw(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut rollout = find(overlay, name)?;
    let by = &context.sender.account;
    if !users::withdraw_approval(&mut rollout.approvals, by) {
        return Err(RolloutsError::NoApproval(by.clone()).into());
    }
    let time_ms = context.block.time_ms;
    let rule = rule(overlay, &rollout.districts, time_ms)?;
    if !rule.is_met(overlay, &rollout.approvals)? && rollout.status == RolloutStatus::Approved {
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
    groups::start(&mut unit, name)?;
    Ok(unit.commit()?)
}
