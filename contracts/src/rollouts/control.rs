//! People's hands on a rollout that has begun, and what other contracts tell it.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    Deployment, DeploymentState, Device, Fact, Id, Notification, Role, RolloutPlan, RolloutStatus,
};

use super::desk::{Desk, StepInfo};
use super::plan::{demand, find, wanted_approvals};
use super::transitions::is_postponable;
use super::{ROLLOUTS_AT_WORK_MAX, RolloutsError, block_of, fleet, keys, timers};
use crate::{BlockContext, Context, ExecutionError, Reader, devices, in_city};

pub fn pause(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    demand(context, Role::Operator, &rollout.districts)?;
    if rollout.status != RolloutStatus::Running {
        return Err(RolloutsError::Status(rollout.status).into());
    }
    let mut desk = Desk::new(overlay, block_of(context));
    desk.set_status(name, RolloutStatus::Paused)?;
    desk.edit(name)?.reason = reason.to_owned();
    let (rollout, reason) = (name.clone(), reason.to_owned());
    desk.notify(in_city(Fact::RolloutPaused { rollout, reason }));
    Ok(desk.close()?)
}

pub fn resume(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    demand(context, Role::Operator, &rollout.districts)?;
    let after_errors = match rollout.status {
        RolloutStatus::Paused => false,
        RolloutStatus::PausedByErrors => true,
        status => return Err(RolloutsError::Status(status).into()),
    };
    if after_errors {
        let (got, wanted) = (rollout.approvals.len(), wanted_approvals(overlay)?);
        if got < wanted {
            return Err(RolloutsError::NotApprovedAgain { got, wanted }.into());
        }
    }
    let mut desk = Desk::new(overlay, block_of(context));
    desk.set_status(name, RolloutStatus::Running)?;
    let record = desk.edit(name)?;
    record.reason.clear();
    if after_errors {
        record.counts_at_resume = record.counts;
    }
    desk.notify(in_city(Fact::RolloutResumed {
        rollout: name.clone(),
    }));
    desk.settle(name)?;
    Ok(desk.close()?)
}

pub fn cancel(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let rollout = find(overlay, name)?;
    demand(context, Role::Operator, &rollout.districts)?;
    let mut desk = Desk::new(overlay, block_of(context));
    match rollout.status {
        RolloutStatus::PendingApproval | RolloutStatus::Approved => {
            desk.edit(name)?.reason = reason.to_owned();
            desk.set_status(name, RolloutStatus::Stopped)?;
            desk.notify(in_city(Fact::RolloutStopped {
                rollout: name.clone(),
            }));
        }
        RolloutStatus::Running | RolloutStatus::Paused | RolloutStatus::PausedByErrors => {
            stop(&mut desk, name, reason)?;
        }
        status @ (RolloutStatus::Stopping | RolloutStatus::Stopped | RolloutStatus::Finished) => {
            return Err(RolloutsError::Status(status).into());
        }
    }
    Ok(desk.close()?)
}

/// From the next block on, what is not yet installing is cancelled.
fn stop(desk: &mut Desk<'_>, name: &Id, reason: &str) -> Result<(), StateError> {
    desk.set_status(name, RolloutStatus::Stopping)?;
    desk.edit(name)?.reason = reason.to_owned();
    let (rollout, reason) = (name.clone(), reason.to_owned());
    desk.notify(in_city(Fact::RolloutStopping { rollout, reason }));
    Ok(())
}

/// Stops every rollout of a revoked release. Bounded by [`ROLLOUTS_AT_WORK_MAX`]; the deployments
/// follow block by block.
///
/// # Errors
/// The state can't be read.
pub fn recall(
    overlay: &mut Overlay,
    block: &BlockContext,
    release: &Id,
) -> Result<Vec<Notification>, StateError> {
    let mut desk = Desk::new(overlay, *block);
    for (name, _) in desk
        .overlay
        .page(&keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)?
    {
        let rollout = desk.rollout(&name)?;
        if rollout.plan.release == *release && rollout.status != RolloutStatus::Stopping {
            stop(&mut desk, &name, "the release was revoked")?;
        }
    }
    desk.close()
}

/// Ends the deployment that is at work on a device which is decommissioned. Without this call the
/// deployment ends when its timer is up.
///
/// # Errors
/// The state can't be read.
pub fn device_left(
    overlay: &mut Overlay,
    block: &BlockContext,
    device: &Device,
) -> Result<Vec<Notification>, StateError> {
    let Some(rollout) = fleet::state(overlay, &device.device)?.active_rollout else {
        return Ok(Vec::new());
    };
    let missing = || StateError::Missing {
        what: format!("the deployment of {rollout}"),
    };
    let key = keys::deployment(&rollout, &device.device);
    let mut deployment = overlay.get(&key)?.ok_or_else(missing)?;
    let mut desk = Desk::new(overlay, *block);
    let info = StepInfo::because("the device was taken out of service");
    desk.advance(&mut deployment, device, DeploymentState::Removed, info)?;
    desk.close()
}

pub fn postpone(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    device: &Id,
    until_ms: u64,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
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
    context.demand(Role::Operator, &device.district)?;
    let info = StepInfo {
        by: Some(context.sender.account.clone()),
        detail: reason.to_owned(),
        ..StepInfo::default()
    };
    let mut desk = Desk::new(overlay, block_of(context));
    if until_ms == 0 {
        if deployment.state != DeploymentState::Postponed {
            return Err(RolloutsError::NotPostponed(deployment.state).into());
        }
        timers::go_on(&mut desk, &mut deployment, &device, info)?;
        return Ok(desk.close()?);
    }
    demand_postponable(&mut desk, &plan, &deployment, until_ms)?;
    if deployment.state != DeploymentState::Postponed {
        deployment.postponed_from = Some(deployment.state);
    }
    deployment.postponed_count = deployment.postponed_count.saturating_add(1);
    deployment.postponed_until_ms = Some(until_ms);
    desk.advance(&mut deployment, &device, DeploymentState::Postponed, info)?;
    Ok(desk.close()?)
}

fn demand_postponable(
    desk: &mut Desk<'_>,
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
    if desk.release(&plan.release)?.manifest.critical {
        return Err(RolloutsError::Critical.into());
    }
    if deployment.postponed_count >= plan.deferral.count_max {
        return Err(RolloutsError::PostponedTooOften(deployment.postponed_count).into());
    }
    let latest_ms = offered_ms.saturating_add(plan.deferral.total_ms_max);
    if until_ms <= desk.block.time_ms || until_ms > latest_ms {
        return Err(RolloutsError::PostponedTooLong {
            until_ms,
            latest_ms,
        }
        .into());
    }
    Ok(())
}
