//! Expansion: a running rollout assigns the devices of its selection, a bounded number in each
//! block.

use std::ops::Range;

use lamplighter_state::StateError;
use lamplighter_types::limits::{DEVICES_LOOKED_AT_PER_BLOCK_MAX, STEPS_PER_BLOCK_MAX};
use lamplighter_types::{
    DeploymentState, Device, DeviceState, DeviceStatus, Fact, GroupMembers, Hash, Id, Notification,
    ReleaseManifest, RolloutStatus, Selection, SkipReason, Tag,
};

use super::grouped::Grouped;
use super::unit::{RolloutUnit, StepInfo};
use super::{device_state, keys, late};
use crate::{devices, firmware};

/// The work that one block may still do for new deployments.
pub struct Budget {
    /// Devices assigned, or looked at for a rollout without groups.
    pub assignments: usize,
    /// Devices looked at for rollouts in groups.
    pub looks: usize,
}

impl Budget {
    pub fn of_block() -> Self {
        Self {
            assignments: STEPS_PER_BLOCK_MAX,
            looks: DEVICES_LOOKED_AT_PER_BLOCK_MAX,
        }
    }
}

/// Assigns the next devices of a rollout, within the budget.
pub fn expand(
    unit: &mut RolloutUnit<'_>,
    name: &Id,
    budget: &mut Budget,
) -> Result<(), StateError> {
    if unit.rollout(name)?.status != RolloutStatus::Running {
        return Ok(());
    }
    match unit.grouped(name)? {
        Some(_) => expand_group(unit, name, budget),
        None => expand_all(unit, name, &mut budget.assignments),
    }
}

/// Assigns the next devices of a rollout without groups. It looks at no more than `budget` devices,
/// and lowers the budget by their number.
fn expand_all(unit: &mut RolloutUnit<'_>, name: &Id, budget: &mut usize) -> Result<(), StateError> {
    let rollout = unit.rollout(name)?;
    if rollout.expanded || *budget == 0 {
        return Ok(());
    }
    let (selection, after) = (rollout.plan.selection.clone(), rollout.cursor.clone());
    let found = next_devices(unit, &selection, after.as_ref(), *budget)?;
    let exhausted = found.len() < *budget;
    *budget -= found.len();
    let last = found.last().map(|device| device.device.clone());
    for device in &found {
        if is_selected(&selection, device) {
            assign_if_eligible(unit, name, device)?;
        }
    }
    let rollout = unit.edit(name)?;
    rollout.cursor = last.or(after);
    rollout.expanded = exhausted;
    unit.evaluate_gate(name)
}

/// Assigns the next devices of the group that opened last. Those that it assigns in the block in
/// which it opened would be counted to the group before it, so it waits for the next one.
fn expand_group(
    unit: &mut RolloutUnit<'_>,
    name: &Id,
    budget: &mut Budget,
) -> Result<(), StateError> {
    let height = unit.block.height;
    let Some(walk) = Walk::of(unit, name)?.filter(|walk| walk.opened_height < height) else {
        return Ok(());
    };
    late::enter(unit, name, &mut budget.assignments)?;
    if !unit.rollout(name)?.expanded {
        walk.run(unit, name, budget)?;
    }
    unit.evaluate_gate(name)
}

/// The walk over the devices of a group.
struct Walk {
    /// All devices of the rollout.
    base: Selection,
    /// The selection that the walk follows: it has all devices of the group.
    path: Selection,
    members: GroupMembers,
    /// Place of the group's share among all shares, in hundredths of a percent.
    share: Range<u64>,
    /// Place of the group in the plan.
    group: usize,
    opened_height: u64,
}

impl Walk {
    /// The walk of the group that opened last.
    fn of(unit: &mut RolloutUnit<'_>, name: &Id) -> Result<Option<Self>, StateError> {
        let base = unit.rollout(name)?.plan.selection.clone();
        let Some(grouped) = unit.grouped(name)? else {
            return Ok(None);
        };
        let current = (grouped.state.opened as usize).checked_sub(1);
        Ok(current.map(|group| Self::over(grouped, group, base)))
    }

    fn over(grouped: &Grouped, group: usize, base: Selection) -> Self {
        let percent = |members: &GroupMembers| match members {
            GroupMembers::Percent { percent } => u64::from(*percent) * 100,
            GroupMembers::Selected { .. } | GroupMembers::Count { .. } | GroupMembers::Rest => 0,
        };
        let members = grouped.plan.groups[group].members.clone();
        let earlier = grouped.plan.groups[..group].iter();
        let from: u64 = earlier.map(|group| percent(&group.members)).sum();
        let record = &grouped.state.groups[group];
        Self {
            path: path(&base, &members),
            base,
            share: from..from + percent(&members),
            members,
            group,
            opened_height: record.opened_height.unwrap_or(u64::MAX),
        }
    }

    fn run(
        &self,
        unit: &mut RolloutUnit<'_>,
        name: &Id,
        budget: &mut Budget,
    ) -> Result<(), StateError> {
        while budget.looks > 0 && budget.assignments > 0 {
            let limit = budget.looks.min(STEPS_PER_BLOCK_MAX);
            let after = unit.rollout(name)?.cursor.clone();
            let found = next_devices(unit, &self.path, after.as_ref(), limit)?;
            for device in &found {
                if self.is_full(unit, name)? {
                    unit.edit(name)?.expanded = true;
                    return Ok(());
                }
                if budget.assignments == 0 {
                    return Ok(());
                }
                budget.looks -= 1;
                if self.has(name, device) {
                    budget.assignments -= 1;
                    assign_if_eligible(unit, name, device)?;
                }
                unit.edit(name)?.cursor = Some(device.device.clone());
            }
            if found.len() < limit || self.is_full(unit, name)? {
                unit.edit(name)?.expanded = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tells whether a group of so many devices has them.
    fn is_full(&self, unit: &mut RolloutUnit<'_>, name: &Id) -> Result<bool, StateError> {
        let grouped = unit.grouped(name)?;
        Ok(grouped.is_some_and(|grouped| grouped.room(self.group) == 0))
    }

    /// Tells whether the device belongs to the group, if no earlier one has it.
    fn has(&self, rollout: &Id, device: &Device) -> bool {
        let chosen = match &self.members {
            GroupMembers::Selected { selection } => is_selected(selection, device),
            GroupMembers::Percent { percent: _ } => {
                self.share.contains(&share_of(rollout, &device.device))
            }
            GroupMembers::Count { count: _ } | GroupMembers::Rest => true,
        };
        chosen && is_selected(&self.base, device)
    }
}

/// The groups of a rollout that have opened, to find those that have a device which comes late.
pub(super) struct OpenedGroups(Vec<Walk>);

impl OpenedGroups {
    pub(super) fn of(unit: &mut RolloutUnit<'_>, name: &Id) -> Result<Self, StateError> {
        let base = unit.rollout(name)?.plan.selection.clone();
        let Some(grouped) = unit.grouped(name)? else {
            return Ok(Self(Vec::new()));
        };
        let opened = 0..grouped.state.opened as usize;
        let walks = opened.map(|group| Walk::over(grouped, group, base.clone()));
        Ok(Self(walks.collect()))
    }

    /// Tells whether one of them has the device. The walk of a later group finds it otherwise. A
    /// group of so many devices has its own, so that only the last one may have room.
    pub(super) fn have(
        &self,
        unit: &mut RolloutUnit<'_>,
        rollout: &Id,
        device: &Device,
    ) -> Result<bool, StateError> {
        let Some((current, earlier)) = self.0.split_last() else {
            return Ok(false);
        };
        let is_counted = |walk: &Walk| matches!(walk.members, GroupMembers::Count { count: _ });
        let mut earlier = earlier.iter().filter(|walk| !is_counted(walk));
        Ok(earlier.any(|walk| walk.has(rollout, device))
            || current.has(rollout, device) && !current.is_full(unit, rollout)?)
    }
}

/// The selection of the two that is quicker to walk over and has all devices which are in both.
fn path(base: &Selection, members: &GroupMembers) -> Selection {
    let GroupMembers::Selected { selection } = members else {
        return base.clone();
    };
    match (base, selection) {
        (Selection::Filter { district: all, .. }, Selection::Filter { district, .. })
            if !all.covers(district) =>
        {
            base.clone()
        }
        (Selection::Filter { .. }, _) | (Selection::List { .. }, Selection::List { .. }) => {
            selection.clone()
        }
        (Selection::List { .. }, Selection::Filter { .. }) => base.clone(),
    }
}

/// The place of a device among all shares of a rollout, in hundredths of a percent. It differs from
/// rollout to rollout, so that the first ones are not always the same.
pub(super) fn share_of(rollout: &Id, device: &Id) -> u64 {
    let text = format!("{rollout}\0{device}");
    let Hash(digest) = Hash::of(text.as_bytes());
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    u64::from_be_bytes(*first) % 10_000
}

fn next_devices(
    unit: &RolloutUnit<'_>,
    selection: &Selection,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Device>, StateError> {
    match selection {
        Selection::List { devices } => {
            let seen = after.and_then(|after| devices.iter().position(|device| device == after));
            let rest = devices.iter().skip(seen.map_or(0, |at| at + 1)).take(limit);
            rest.map(|device| device_state::known_device(unit.overlay, device))
                .collect()
        }
        Selection::Filter {
            district,
            model: _,
            hardware_class: _,
            tag: _,
        } => devices::in_district(unit.overlay, district, after, limit),
    }
}

/// Tells whether the selection has the device. The walk over a list finds no others.
pub(super) fn is_selected(selection: &Selection, device: &Device) -> bool {
    let (district, model, hardware_class, tag) = match selection {
        Selection::List { devices } => return devices.contains(&device.device),
        Selection::Filter {
            district,
            model,
            hardware_class,
            tag,
        } => (district, model, hardware_class, tag),
    };
    district.covers(&device.district)
        && device.status == DeviceStatus::Active
        && model.as_ref().is_none_or(|model| *model == device.model)
        && hardware_class
            .as_ref()
            .is_none_or(|class| *class == device.hardware_class)
        && tag
            .as_ref()
            .is_none_or(|wanted| device.tags.iter().any(|tag| fits(tag, wanted)))
}

fn fits(tag: &Tag, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => tag.name == name && tag.value == value,
        None => tag.name == wanted,
    }
}

/// The decision about a selected device.
enum Eligibility {
    Assign,
    NotNeeded,
    Skip(SkipReason),
}

pub(super) fn assign_if_eligible(
    unit: &mut RolloutUnit<'_>,
    name: &Id,
    device: &Device,
) -> Result<(), StateError> {
    if unit
        .overlay
        .exists(&keys::deployment(name, &device.device))?
    {
        return Ok(());
    }
    let release = unit.rollout(name)?.plan.release.clone();
    let manifest = unit.release(&release)?.manifest.clone();
    let state = device_state::state(unit.overlay, &device.device)?;
    let mut verdict = eligibility(&manifest, device, &state, unit.block.time_ms);
    if matches!(verdict, Eligibility::Assign)
        && !supersede_older(unit, name, &manifest, device, &state)?
    {
        verdict = Eligibility::Skip(SkipReason::Busy);
    }
    match verdict {
        Eligibility::Assign => unit.assign(name, device, DeploymentState::Assigned),
        Eligibility::NotNeeded => unit.assign(name, device, DeploymentState::NotNeeded),
        Eligibility::Skip(reason) => {
            unit.count_skipped(name)?;
            let fact = Fact::DeploymentSkipped {
                rollout: name.clone(),
                reason,
            };
            unit.notify(Notification::about_device(device, fact));
            Ok(())
        }
    }
}

fn eligibility(
    manifest: &ReleaseManifest,
    device: &Device,
    state: &DeviceState,
    time_ms: u64,
) -> Eligibility {
    if device.status != DeviceStatus::Active {
        return Eligibility::Skip(SkipReason::NotActive);
    }
    if device.gateway.is_none() {
        return Eligibility::Skip(SkipReason::NoGateway);
    }
    if !manifest.hardware_classes.contains(&device.hardware_class) {
        return Eligibility::Skip(SkipReason::HardwareClass);
    }
    if state.active_rollout.is_none() && state.digest == Some(manifest.artifact) {
        return Eligibility::NotNeeded;
    }
    if firmware::is_expired(manifest, time_ms) {
        return Eligibility::Skip(SkipReason::ReleaseExpired);
    }
    if manifest.security_counter < state.security_counter {
        return Eligibility::Skip(SkipReason::SecurityCounter);
    }
    let replaceable = |from| state.version.is_some_and(|running| running >= from);
    if !manifest.replaces_from.is_none_or(replaceable) {
        return Eligibility::Skip(SkipReason::RunningVersion);
    }
    let confirmed = |release: &Id| state.confirmed.contains(release);
    if !manifest.depends_on.is_empty() && !manifest.depends_on.iter().any(confirmed) {
        return Eligibility::Skip(SkipReason::Dependency);
    }
    Eligibility::Assign
}

/// Supersedes an active deployment of a lower version that is not yet installing. Returns whether
/// the device is free now.
fn supersede_older(
    unit: &mut RolloutUnit<'_>,
    name: &Id,
    manifest: &ReleaseManifest,
    device: &Device,
    state: &DeviceState,
) -> Result<bool, StateError> {
    let Some(other) = &state.active_rollout else {
        return Ok(true);
    };
    let missing = || StateError::Missing {
        what: format!("the deployment of {other}"),
    };
    let key = keys::deployment(other, &device.device);
    let mut deployment = unit.overlay.get(&key)?.ok_or_else(missing)?;
    let version = unit.release(&deployment.release)?.manifest.version;
    if deployment.state.is_past_return() || version >= manifest.version {
        return Ok(false);
    }
    let info = StepInfo::system(&format!("by the rollout {name}"));
    unit.advance(&mut deployment, device, DeploymentState::Superseded, info)?;
    Ok(true)
}
