//! The work of rollouts that block time alone brings.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::STEPS_PER_BLOCK_MAX;
use lamplighter_types::{DeploymentState, Id, Notification, RolloutStatus, RolloutWork};

use super::unit::{RolloutUnit, StepInfo};
use super::{ROLLOUTS_AT_WORK_MAX, device_state, expand, groups, keys, late, revoked, timers};
use crate::{BlockContext, Reader};

/// Does the work of one block: expired timers, then recalls, then new deployments, of each kind no
/// more than [`STEPS_PER_BLOCK_MAX`], whatever the size of the fleet.
///
/// # Errors
/// The state can't be read.
pub fn tick(overlay: &mut Overlay, block: &BlockContext) -> Result<Vec<Notification>, StateError> {
    let mut unit = RolloutUnit::new(overlay, *block);
    timers::run(&mut unit)?;
    timers::run_rollouts(&mut unit)?;
    revoked::run(&mut unit)?;
    let mut sweeps = STEPS_PER_BLOCK_MAX;
    let mut budget = expand::Budget::of_block();
    for (name, work) in unit
        .overlay
        .page(&keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)?
    {
        match work {
            RolloutWork::Nothing => {}
            RolloutWork::Sweep => sweep(&mut unit, &name, &mut sweeps)?,
            RolloutWork::Expand => expand::expand(&mut unit, &name, &mut budget)?,
        }
    }
    unit.commit()
}

/// Unix time in ms at which [`tick`] has work next: 0 for at once, `None` if nothing waits for
/// time. A block at that time, even an empty one, keeps timers and expansion running on an idle
/// ledger.
///
/// # Errors
/// The state can't be read.
pub fn due_ms(reader: &impl Reader) -> Result<Option<u64>, StateError> {
    let at_work = reader.page(&keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)?;
    if at_work
        .iter()
        .any(|(_, work)| *work != RolloutWork::Nothing)
    {
        return Ok(Some(0));
    }
    if revoked::is_searching(reader)? {
        return Ok(Some(0));
    }
    let next = reader.page(&keys::timers(), None, 1)?;
    let of_deployment = next.first().map(|(deadline_ms, _, _)| *deadline_ms);
    let next = reader.page(&keys::rollout_timers(), None, 1)?;
    let of_rollout = next.first().map(|(deadline_ms, _)| *deadline_ms);
    Ok([of_deployment, of_rollout].into_iter().flatten().min())
}

/// Cancels the next deployments of a stopping rollout that are not yet installing.
fn sweep(unit: &mut RolloutUnit<'_>, name: &Id, budget: &mut usize) -> Result<(), StateError> {
    let rollout = unit.rollout(name)?;
    if rollout.status != RolloutStatus::Stopping || rollout.swept || *budget == 0 {
        return Ok(());
    }
    let (after, reason) = (rollout.sweep.clone(), rollout.reason.clone());
    let after = after.map(|device| keys::deployment(name, &device));
    let found = unit
        .overlay
        .page(&keys::deployments(name), after.as_ref(), *budget)?;
    let exhausted = found.len() < *budget;
    *budget -= found.len();
    let last = found.last().map(|deployment| deployment.device.clone());
    for mut deployment in found {
        if !deployment.state.is_past_return() {
            let device = device_state::known_device(unit.overlay, &deployment.device)?;
            let info = StepInfo::system(&reason);
            unit.advance(&mut deployment, &device, DeploymentState::Cancelled, info)?;
        } else if !deployment.state.is_end() {
            groups::record_too_late(unit, &mut deployment, &reason)?;
        }
    }
    let forgotten = late::drain(unit, name, *budget)?;
    *budget -= forgotten.len();
    let none_late = unit
        .grouped(name)?
        .is_none_or(|grouped| grouped.state.late == 0);
    let rollout = unit.edit(name)?;
    rollout.sweep = last.or(rollout.sweep.take());
    rollout.swept = exhausted && none_late;
    unit.evaluate_gate(name)
}
