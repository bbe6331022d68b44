//! Expired timers of deployments.

use lamplighter_state::StateError;
use lamplighter_types::limits::STEPS_PER_BLOCK_MAX;
use lamplighter_types::{
    Deployment, DeploymentState, Device, DeviceStatus, RolloutStatus, StepTimers, json,
};

use super::unit::{RolloutUnit, StepInfo};
use super::{ROLLOUTS_AT_WORK_MAX, device_state, grouped, guards, keys, operator_actions};
use crate::Reader;

/// Handles the timers that have expired, no more than [`STEPS_PER_BLOCK_MAX`].
pub fn run(unit: &mut RolloutUnit<'_>) -> Result<(), StateError> {
    let timers = unit
        .overlay
        .scan(&keys::timers(), None, STEPS_PER_BLOCK_MAX)?;
    for (key, (deadline_ms, rollout, device)) in timers {
        if deadline_ms > unit.block.time_ms {
            break;
        }
        match unit.overlay.get(&keys::deployment(&rollout, &device))? {
            Some(mut deployment) if deployment.deadline_ms == Some(deadline_ms) => {
                on_expired(unit, &mut deployment)?;
            }
            Some(_) | None => unit.overlay.delete(&key),
        }
    }
    Ok(())
}

/// Looks at the rollouts whose soak or stop deadline has come. Only those that run or are paused
/// have one.
pub fn run_rollouts(unit: &mut RolloutUnit<'_>) -> Result<(), StateError> {
    let timers = unit
        .overlay
        .page(&keys::rollout_timers(), None, ROLLOUTS_AT_WORK_MAX)?;
    for (deadline_ms, name) in timers {
        if deadline_ms > unit.block.time_ms {
            break;
        }
        // A timer of a deployment may have ended the rollout in this block.
        if !grouped::is_live(unit.rollout(&name)?.status) {
            continue;
        }
        let stop_ms = unit
            .grouped(&name)?
            .and_then(|grouped| grouped.plan.stop_ms);
        if stop_ms.is_some_and(|stop_ms| stop_ms <= unit.block.time_ms) {
            operator_actions::stop(unit, &name, "the stop deadline has come")?;
        } else {
            unit.edit(&name)?;
            unit.evaluate_gate(&name)?;
        }
    }
    Ok(())
}

fn on_expired(unit: &mut RolloutUnit<'_>, deployment: &mut Deployment) -> Result<(), StateError> {
    let device = device_state::known_device(unit.overlay, &deployment.device)?;
    let before_installing = !deployment.state.is_past_return();
    let out_of_service = match device.status {
        DeviceStatus::Active => false,
        DeviceStatus::Suspended => before_installing,
        DeviceStatus::Decommissioned => true,
    };
    if out_of_service {
        let info = StepInfo::system("the device is not active");
        return unit.advance(deployment, &device, DeploymentState::Removed, info);
    }
    if deployment.state == DeploymentState::Postponed {
        return resume_postponed(
            unit,
            deployment,
            &device,
            StepInfo::system("the postponement is over"),
        );
    }
    let status = unit.rollout(&deployment.rollout)?.status;
    let paused = matches!(
        status,
        RolloutStatus::Paused | RolloutStatus::PausedByErrors
    );
    if guards::on_expired(unit, deployment, &device, paused)? {
        return Ok(());
    }
    if paused && before_installing {
        return rearm(unit, deployment);
    }
    let silent_since = json::variant_name(&deployment.state);
    let info = StepInfo::system(&format!("silent since {silent_since}"));
    unit.advance(deployment, &device, DeploymentState::TimedOut, info)
}

/// Ends a postponement: the deployment returns to its state before it, with a new timer.
pub fn resume_postponed(
    unit: &mut RolloutUnit<'_>,
    deployment: &mut Deployment,
    device: &Device,
    info: StepInfo,
) -> Result<(), StateError> {
    deployment.postponed_until_ms = None;
    let back = match deployment.postponed_from.take() {
        // Whether it still waits for somebody is looked at again.
        Some(DeploymentState::WaitingConsent | DeploymentState::WaitingWindow) => {
            DeploymentState::Downloaded
        }
        Some(state) => state,
        None => DeploymentState::Offered,
    };
    unit.advance(deployment, device, back, info)
}

fn rearm(unit: &mut RolloutUnit<'_>, deployment: &mut Deployment) -> Result<(), StateError> {
    let timers = &unit.rollout(&deployment.rollout)?.plan.timers;
    let step_ms = step_ms(deployment.state, timers);
    let deadline_ms = step_ms.map(|ms| unit.block.time_ms.saturating_add(ms));
    unit.set_timer(deployment, deadline_ms);
    unit.put(deployment);
    Ok(())
}

/// The time in ms that the timer of a state runs; `None` for ends.
pub fn step_ms(state: DeploymentState, timers: &StepTimers) -> Option<u64> {
    use DeploymentState::*;
    match state {
        Assigned => Some(timers.offer_ms),
        Offered | WaitingConsent | Postponed | WaitingWindow | Downloading => {
            Some(timers.download_ms)
        }
        Downloaded | Installing | Staged => Some(timers.install_ms),
        Trial => Some(timers.trial_ms),
        Confirmed | Reverted | Failed | Rejected | TimedOut | Cancelled | Superseded | Removed
        | NotNeeded => None,
    }
}

/// The deadline of a state that was just entered. One timer covers several states: it continues
/// from offered to downloading, and from downloaded to staged.
pub fn deadline(
    deployment: &Deployment,
    from: Option<DeploymentState>,
    timers: &StepTimers,
    now_ms: u64,
) -> Option<u64> {
    use DeploymentState::*;
    match (from, deployment.state) {
        (_, Postponed) => deployment.postponed_until_ms,
        (Some(Offered), Downloading)
        | (Some(Downloaded), Installing)
        | (Some(Installing), Staged) => deployment.deadline_ms,
        (_, state) => step_ms(state, timers).map(|ms| now_ms.saturating_add(ms)),
    }
}
