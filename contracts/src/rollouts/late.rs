//! Devices that begin to match a continuous rollout after its start. The change of a device only
//! remembers it; blocks assign it to the group that opened last, if a group that has opened has it.
//! A later group finds it by itself.
//!
//! Canaries are named by people, and a group of so many devices has no more, so late devices wait
//! until such a group has passed.

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{Device, Id, Selection};

use super::expand::{OpenedGroups, assign_if_eligible, is_selected};
use super::grouped::Grouped;
use super::unit::RolloutUnit;
use super::{CONTINUOUS_ROLLOUTS_MAX, device_state, keys};
use crate::{BlockContext, Reader};

/// Tells whether a continuous rollout could assign the device now.
fn matches(selection: &Selection, device: &Device) -> bool {
    device.gateway.is_some() && is_selected(selection, device)
}

/// Remembers devices that were registered (nothing before) or changed, for the continuous rollouts
/// that they begin to match. Bounded by [`CONTINUOUS_ROLLOUTS_MAX`] for each device.
///
/// # Errors
/// The state can't be read.
pub fn devices_changed<'a>(
    overlay: &mut Overlay,
    block: &BlockContext,
    changes: impl Iterator<Item = (Option<&'a Device>, &'a Device)>,
) -> Result<(), StateError> {
    let mut unit = RolloutUnit::new(overlay, *block);
    let rollouts = unit
        .overlay
        .page(&keys::continuous(), None, CONTINUOUS_ROLLOUTS_MAX)?;
    if rollouts.is_empty() {
        return Ok(());
    }
    for (before, after) in changes {
        for name in &rollouts {
            let selection = &unit.rollout(name)?.plan.selection;
            if before.is_some_and(|before| matches(selection, before)) || !matches(selection, after)
            {
                continue;
            }
            remember(&mut unit, name, &after.device)?;
        }
    }
    unit.commit()?;
    Ok(())
}

fn remember(unit: &mut RolloutUnit<'_>, name: &Id, device: &Id) -> Result<(), StateError> {
    let key = keys::late_device(name, device);
    if unit.overlay.exists(&key)? {
        return Ok(());
    }
    unit.overlay.put(&key, device);
    if let Some(grouped) = unit.edit_groups(name)? {
        grouped.state.late = grouped.state.late.saturating_add(1);
    }
    Ok(())
}

/// Forgets the next late devices of a rollout, no more than `limit`, and returns them.
pub(super) fn drain(
    unit: &mut RolloutUnit<'_>,
    name: &Id,
    limit: usize,
) -> Result<Vec<Id>, StateError> {
    let waiting = unit.grouped(name)?.map_or(0, |grouped| grouped.state.late);
    if waiting == 0 || limit == 0 {
        return Ok(Vec::new());
    }
    let found = unit.overlay.page(&keys::late_devices(name), None, limit)?;
    for device in &found {
        unit.overlay.delete(&keys::late_device(name, device));
    }
    if let Some(grouped) = unit.edit_groups(name)? {
        let count = u64::try_from(found.len()).expect("a page is small");
        grouped.state.late = grouped.state.late.saturating_sub(count);
    }
    Ok(found)
}

/// Assigns the next late devices, and lowers the budget by their number.
pub(super) fn enter(
    unit: &mut RolloutUnit<'_>,
    name: &Id,
    budget: &mut usize,
) -> Result<(), StateError> {
    let takes = unit.grouped(name)?.map_or(0, Grouped::late_to_enter);
    if takes == 0 {
        return Ok(());
    }
    let limit = usize::try_from(takes).map_or(*budget, |takes| takes.min(*budget));
    let groups = OpenedGroups::of(unit, name)?;
    for device in drain(unit, name, limit)? {
        *budget -= 1;
        let device = device_state::known_device(unit.overlay, &device)?;
        if groups.have(unit, name, &device)? {
            assign_if_eligible(unit, name, &device)?;
        }
    }
    Ok(())
}
