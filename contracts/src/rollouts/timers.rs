//! What happens when a deployment's timer is up.

use lamplighter_state::StateError;
use lamplighter_types::limits::STEPS_PER_BLOCK_MAX;
use lamplighter_types::{Deployment, DeploymentState, Device, DeviceStatus, RolloutStatus};

use super::desk::{Desk, StepInfo, step_ms};
use super::{fleet, keys};

/// Does what is due, no more than [`STEPS_PER_BLOCK_MAX`] timers.
pub fn run(desk: &mut Desk<'_>) -> Result<(), StateError> {
    let timers = desk
        .overlay
        .scan(&keys::timers(), None, STEPS_PER_BLOCK_MAX)?;
    for (key, (deadline_ms, rollout, device)) in timers {
        if deadline_ms > desk.block.time_ms {
            break;
        }
        match desk.overlay.get(&keys::deployment(&rollout, &device))? {
            Some(mut deployment) if deployment.deadline_ms == Some(deadline_ms) => {
                up(desk, &mut deployment)?;
            }
            Some(_) | None => desk.overlay.delete(&key),
        }
    }
    Ok(())
}

fn up(desk: &mut Desk<'_>, deployment: &mut Deployment) -> Result<(), StateError> {
    let device = fleet::known_device(desk.overlay, &deployment.device)?;
    let before_installing = !deployment.state.is_past_return();
    let gone = match device.status {
        DeviceStatus::Active => false,
        DeviceStatus::Suspended => before_installing,
        DeviceStatus::Decommissioned => true,
    };
    if gone {
        let info = StepInfo::because("the device is not active");
        return desk.advance(deployment, &device, DeploymentState::Removed, info);
    }
    if deployment.state == DeploymentState::Postponed {
        return go_on(
            desk,
            deployment,
            &device,
            StepInfo::because("the postponement is over"),
        );
    }
    let status = desk.rollout(&deployment.rollout)?.status;
    let paused = matches!(
        status,
        RolloutStatus::Paused | RolloutStatus::PausedByErrors
    );
    if paused && before_installing {
        return begin_anew(desk, deployment);
    }
    let info = StepInfo::because(&format!("silent since {:?}", deployment.state));
    desk.advance(deployment, &device, DeploymentState::TimedOut, info)
}

/// Ends a postponement: the deployment is where it was, with a new timer.
pub fn go_on(
    desk: &mut Desk<'_>,
    deployment: &mut Deployment,
    device: &Device,
    info: StepInfo,
) -> Result<(), StateError> {
    deployment.postponed_until_ms = None;
    let back = deployment
        .postponed_from
        .take()
        .unwrap_or(DeploymentState::Offered);
    desk.advance(deployment, device, back, info)
}

fn begin_anew(desk: &mut Desk<'_>, deployment: &mut Deployment) -> Result<(), StateError> {
    let timers = &desk.rollout(&deployment.rollout)?.plan.timers;
    let step_ms = step_ms(deployment.state, timers);
    let deadline_ms = step_ms.map(|ms| desk.block.time_ms.saturating_add(ms));
    desk.set_timer(deployment, deadline_ms);
    desk.put(deployment);
    Ok(())
}
