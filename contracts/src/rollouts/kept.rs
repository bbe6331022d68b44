//! The deployments of a device that stay in the state. A device is part of many rollouts in its
//! life; without a bound each of them would leave two records for ever.

use lamplighter_state::StateError;
use lamplighter_types::limits::DEPLOYMENTS_PER_DEVICE_MAX;
use lamplighter_types::{Id, RolloutStatus};

use super::keys;
use super::unit::RolloutUnit;

/// Makes room for another deployment of a device: if it has as many as stay in the state, the
/// oldest one that ended, of a rollout that ended, leaves it. The history has it. Those of rollouts
/// that have not ended stay; their number is bounded.
pub(super) fn make_room(unit: &mut RolloutUnit<'_>, device: &Id) -> Result<(), StateError> {
    let of_device = keys::device_rollouts(device);
    let oldest = unit
        .overlay
        .scan(&of_device, None, DEPLOYMENTS_PER_DEVICE_MAX)?;
    if oldest.len() < DEPLOYMENTS_PER_DEVICE_MAX {
        return Ok(());
    }
    for (index, rollout) in oldest {
        if !has_ended(unit.rollout(&rollout)?.status) {
            continue;
        }
        let key = keys::deployment(&rollout, device);
        let deployment = unit.overlay.get(&key)?;
        if deployment.is_some_and(|deployment| deployment.state.is_end()) {
            unit.overlay.delete(&key);
            unit.overlay.delete(&index);
            let record = keys::install_record(&rollout, device);
            if unit.overlay.exists(&record)? {
                unit.overlay.delete(&record);
            }
            break;
        }
    }
    Ok(())
}

fn has_ended(status: RolloutStatus) -> bool {
    match status {
        RolloutStatus::Stopped | RolloutStatus::Finished => true,
        RolloutStatus::PendingApproval
        | RolloutStatus::Approved
        | RolloutStatus::Running
        | RolloutStatus::Paused
        | RolloutStatus::PausedByErrors
        | RolloutStatus::Stopping => false,
    }
}
