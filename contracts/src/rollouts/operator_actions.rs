//! Actions of operators on a rollout that has begun, and the calls of other contracts.

use std::collections::BTreeSet;

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::TEXT_BYTES_MAX;
use lamplighter_types::validate::{self, FieldError};
use lamplighter_types::{
    Approval, Deployment, DeploymentState, Device, Fact, Id, Notification, Postponement, Role,
    RolloutPlan, RolloutStatus,
};

use super::approving::{require_approved, stays_approved};
use super::plan::{find, require};
use super::transitions::is_postponable;
use super::unit::{RolloutUnit, StepInfo};
use super::{ROLLOUTS_AT_WORK_MAX, RolloutsError, device_state, groups, keys, revoked, timers};
use crate::{BlockContext, Context, ExecutionError, Reader, devices, firmware};

pub fn pause(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    require(context, Role::Operator, &rollout.districts)?;
    if rollout.status != RolloutStatus::Running {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    let mut unit = RolloutUnit::new(overlay, context.block);
    pause_for(&mut unit, name, reason)?;
    Ok(unit.commit()?)
}

pub fn resume(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    require(context, Role::Operator, &rollout.districts)?;
    let after_errors = match rollout.status {
        RolloutStatus::Paused => false,
        RolloutStatus::PausedByErrors => true,
        status => return Err(RolloutsError::Status(status).into()),
    };
    let time_ms = context.block.time_ms;
    require_approved(overlay, &rollout, time_ms)?;
    firmware::resumable(overlay, &rollout.plan.release, &rollout.districts, time_ms)?;
    let mut unit = RolloutUnit::new(overlay, context.block);
    groups::resume(&mut unit, name, after_errors)?;
    unit.set_status(name, RolloutStatus::Running)?;
    let record = unit.edit(name)?;
    record.reason.clear();
    if after_errors {
        record.counts_at_resume = record.counts;
    }
    unit.notify(Notification::city(Fact::RolloutResumed {
        rollout: name.clone(),
    }));
    unit.evaluate_gate(name)?;
    Ok(unit.commit()?)
}

pub fn cancel(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    require(context, Role::Operator, &rollout.districts)?;
    let mut unit = RolloutUnit::new(overlay, context.block);
    match rollout.status {
        RolloutStatus::PendingApproval | RolloutStatus::Approved => {
            unit.edit(name)?.reason = reason.to_owned();
            unit.set_status(name, RolloutStatus::Stopped)?;
            unit.notify(Notification::city(Fact::RolloutStopped {
                rollout: name.clone(),
            }));
        }
        RolloutStatus::Running | RolloutStatus::Paused | RolloutStatus::PausedByErrors => {
            stop(&mut unit, name, reason)?;
        }
        status @ (RolloutStatus::Stopping | RolloutStatus::Stopped | RolloutStatus::Finished) => {
            return Err(RolloutsError::Status(status).into());
        }
    }
    Ok(unit.commit()?)
}

/// Stops a rollout: the blocks that follow cancel every deployment that is not yet installing.
pub(super) fn stop(unit: &mut RolloutUnit<'_>, name: &Id, reason: &str) -> Result<(), StateError> {
    unit.set_status(name, RolloutStatus::Stopping)?;
    unit.edit(name)?.reason = reason.to_owned();
    let (rollout, reason) = (name.clone(), reason.to_owned());
    unit.notify(Notification::city(Fact::RolloutStopping {
        rollout,
        reason,
    }));
    Ok(())
}

/// Stops every rollout of a revoked release, and begins the search for the devices that run it.
/// Bounded by [`ROLLOUTS_AT_WORK_MAX`]; the deployments
/// follow block by block.
///
/// # Errors
/// The state can't be read.
pub fn recall(
    overlay: &mut Overlay,
    block: &BlockContext,
    release: &Id,
) -> Result<Vec<Notification>, StateError> {
    revoked::begin(overlay, release)?;
    let mut unit = RolloutUnit::new(overlay, *block);
    for (name, _) in unit
        .overlay
        .page(&keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)?
    {
        let rollout = unit.rollout(&name)?;
        if rollout.plan.release == *release && rollout.status != RolloutStatus::Stopping {
            stop(&mut unit, &name, "the release was revoked")?;
        }
    }
    unit.commit()
}

/// Pauses every running rollout for which too few approvals are left of its plan or its release,
/// if one of these accounts, which lost role, key or all power, gave one of them. Bounded by
/// [`ROLLOUTS_AT_WORK_MAX`], and by the approvals that each of them and its release can have.
///
/// Approvals that are only too old pause nothing: they were alive when the rollout began.
///
/// # Errors
/// The state can't be read.
pub fn approvers_lost_power(
    overlay: &mut Overlay,
    block: &BlockContext,
    accounts: &BTreeSet<&Id>,
) -> Result<Vec<Notification>, StateError> {
    let time_ms = block.time_ms;
    let mut unit = RolloutUnit::new(overlay, *block);
    let at_work = unit
        .overlay
        .page(&keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)?;
    let approved = |approvals: &[Approval]| {
        let mut approvals = approvals.iter();
        approvals.any(|approval| accounts.contains(&approval.account))
    };
    for (name, _) in at_work {
        let rollout = unit.rollout(&name)?.clone();
        if rollout.status != RolloutStatus::Running {
            continue;
        }
        let release = unit.release(&rollout.plan.release)?.clone();
        if approved(&rollout.approvals) && !stays_approved(unit.overlay, &rollout, time_ms)? {
            pause_for(
                &mut unit,
                &name,
                "an approver of the plan lost the power to do so",
            )?;
        } else if approved(&release.approvals)
            && !firmware::stays_approved(unit.overlay, &release, time_ms)?
        {
            let reason = "an approver of the release lost the power to do so";
            pause_for(&mut unit, &name, reason)?;
        }
    }
    unit.commit()
}

fn pause_for(unit: &mut RolloutUnit<'_>, name: &Id, reason: &str) -> Result<(), StateError> {
    unit.set_status(name, RolloutStatus::Paused)?;
    unit.edit(name)?.reason = reason.to_owned();
    let (rollout, reason) = (name.clone(), reason.to_owned());
    unit.notify(Notification::city(Fact::RolloutPaused { rollout, reason }));
    Ok(())
}

/// Ends the active deployment of a device that is decommissioned. Without this call the deployment
/// would end when its timer expires.
///
/// # Errors
/// The state can't be read.
pub fn device_left(
    overlay: &mut Overlay,
    block: &BlockContext,
    device: &Device,
) -> Result<Vec<Notification>, StateError> {
    let Some(rollout) = device_state::state(overlay, &device.device)?.active_rollout else {
        return Ok(Vec::new());
    };
    let missing = || StateError::Missing {
        what: format!("the deployment of {rollout}"),
    };
    let key = keys::deployment(&rollout, &device.device);
    let mut deployment = overlay.get(&key)?.ok_or_else(missing)?;
    let mut unit = RolloutUnit::new(overlay, *block);
    let info = StepInfo::system("the device was taken out of service");
    unit.advance(&mut deployment, device, DeploymentState::Removed, info)?;
    unit.commit()
}

/// Checks shape and size.
pub fn check_postponement(postponement: &Postponement) -> Result<(), FieldError> {
    let Postponement {
        rollout: _,
        device: _,
        until_ms,
        reason,
    } = postponement;
    validate::number("until_ms", *until_ms)?;
    validate::text("reason", reason, TEXT_BYTES_MAX)
}

pub fn postpone(
    overlay: &mut Overlay,
    context: &Context,
    postponement: &Postponement,
) -> Result<Vec<Notification>, ExecutionError> {
    let Postponement {
        rollout: name,
        device,
        until_ms,
        reason,
    } = postponement;
    let plan = find(overlay, name)?.plan;
    let unknown = || RolloutsError::UnknownDeployment {
        rollout: name.clone(),
        device: device.clone(),
    };
    let mut deployment = overlay
        .get(&keys::deployment(name, device))?
        .ok_or_else(unknown)?;
    let device = devices::device(overlay, device)?
        .ok_or_else(|| RolloutsError::UnknownDevice(device.clone()))?;
    context.require(Role::Operator, &device.district)?;
    let info = StepInfo {
        by: Some(context.sender.account.clone()),
        detail: reason.clone(),
        ..StepInfo::default()
    };
    let mut unit = RolloutUnit::new(overlay, context.block);
    if *until_ms == 0 {
        if deployment.state != DeploymentState::Postponed {
            return Err(RolloutsError::NotPostponed(deployment.state).into());
        }
        timers::resume_postponed(&mut unit, &mut deployment, &device, info)?;
        return Ok(unit.commit()?);
    }
    require_postponable(&mut unit, &plan, &deployment, *until_ms)?;
    put_off(&mut unit, &mut deployment, &device, *until_ms, info)?;
    Ok(unit.commit()?)
}

/// Postpones a deployment that may be postponed.
pub(super) fn put_off(
    unit: &mut RolloutUnit<'_>,
    deployment: &mut Deployment,
    device: &Device,
    until_ms: u64,
    info: StepInfo,
) -> Result<(), StateError> {
    if deployment.state != DeploymentState::Postponed {
        deployment.postponed_from = Some(deployment.state);
    }
    deployment.postponed_count = deployment.postponed_count.saturating_add(1);
    deployment.postponed_until_ms = Some(until_ms);
    unit.advance(deployment, device, DeploymentState::Postponed, info)
}

pub(super) fn require_postponable(
    unit: &mut RolloutUnit<'_>,
    plan: &RolloutPlan,
    deployment: &Deployment,
    until_ms: u64,
) -> Result<(), ExecutionError> {
    if deployment.state.is_past_return() {
        return Err(RolloutsError::TooLate(deployment.state).into());
    }
    let offered_ms = deployment
        .first_offered_ms
        .filter(|_| is_postponable(deployment.state));
    let Some(offered_ms) = offered_ms else {
        return Err(RolloutsError::NotOffered(deployment.state).into());
    };
    if unit.release(&plan.release)?.manifest.critical {
        return Err(RolloutsError::Critical.into());
    }
    if deployment.postponed_count >= plan.deferral.count_max {
        return Err(RolloutsError::PostponedTooOften(deployment.postponed_count).into());
    }
    let latest_ms = offered_ms.saturating_add(plan.deferral.total_ms_max);
    if until_ms <= unit.block.time_ms || until_ms > latest_ms {
        return Err(RolloutsError::PostponedTooLong {
            until_ms,
            latest_ms,
        }
        .into());
    }
    Ok(())
}
