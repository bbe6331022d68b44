//! What rollouts do by block time alone.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::limits::STEPS_PER_BLOCK_MAX;
use lamplighter_types::{DeploymentState, Id, Notification, RolloutStatus, RolloutWork};

use super::desk::{Desk, StepInfo};
use super::{ROLLOUTS_AT_WORK_MAX, expand, fleet, keys, timers};
use crate::{BlockContext, Reader};

/// Once per block: timers that are up, then recalls, then new deployments; of each kind no more
/// than [`STEPS_PER_BLOCK_MAX`], whatever the size of the fleet.
///
/// # Errors
/// The state can't be read.
pub fn tick(overlay: &mut Overlay, block: &BlockContext) -> Result<Vec<Notification>, StateError> {
    let mut desk = Desk::new(overlay, *block);
    timers::run(&mut desk)?;
    let (mut sweeps, mut assignments) = (STEPS_PER_BLOCK_MAX, STEPS_PER_BLOCK_MAX);
    for (name, work) in desk
        .overlay
        .page(&keys::at_work(), None, ROLLOUTS_AT_WORK_MAX)?
    {
        match work {
            RolloutWork::Nothing => {}
            RolloutWork::Sweep => sweep(&mut desk, &name, &mut sweeps)?,
            RolloutWork::Expand => expand::expand(&mut desk, &name, &mut assignments)?,
        }
    }
    desk.close()
}

/// When [`tick`] has something to do next, in Unix ms: 0 when at once, `None` when nothing waits
/// for time. A block that is made then, even an empty one, keeps timers and expansion going on an
/// idle ledger.
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
    let next = reader.page(&keys::timers(), None, 1)?;
    Ok(next.first().map(|(deadline_ms, _, _)| *deadline_ms))
}

/// Cancels what is not yet installing of a stopping rollout.
fn sweep(desk: &mut Desk<'_>, name: &Id, budget: &mut usize) -> Result<(), StateError> {
    let rollout = desk.rollout(name)?;
    if rollout.status != RolloutStatus::Stopping || rollout.swept || *budget == 0 {
        return Ok(());
    }
    let (after, reason) = (rollout.sweep.clone(), rollout.reason.clone());
    let after = after.map(|device| keys::deployment(name, &device));
    let found = desk
        .overlay
        .page(&keys::deployments(name), after.as_ref(), *budget)?;
    let exhausted = found.len() < *budget;
    *budget -= found.len();
    let last = found.last().map(|deployment| deployment.device.clone());
    for mut deployment in found {
        if !deployment.state.is_past_return() {
            let device = fleet::known_device(desk.overlay, &deployment.device)?;
            let info = StepInfo::because(&reason);
            desk.advance(&mut deployment, &device, DeploymentState::Cancelled, info)?;
        }
    }
    let rollout = desk.edit(name)?;
    rollout.sweep = last.or(rollout.sweep.take());
    rollout.swept = exhausted;
    desk.settle(name)
}
