//! Expired timers of deployments.

use lamplighter_state::StateError;
use lamplighter_types::limits::STEPS_PER_BLOCK_MAX;
use lamplighter_types::{Deployment, DeploymentState, Device, DeviceStatus, RolloutStatus, json};

use super::unit::{RolloutUnit, StepInfo, step_ms};
use super::{device_state, keys};

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
    let back = deployment
        .postponed_from
        .take()
        .unwrap_or(DeploymentState::Offered);
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
