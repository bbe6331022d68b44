//! Expansion: a running rollout assigns the devices of its selection, a bounded number in each
//! block.

use lamplighter_state::StateError;
use lamplighter_types::{
    DeploymentState, Device, DeviceState, DeviceStatus, Fact, Id, Notification, ReleaseManifest,
    RolloutStatus, Selection, SkipReason, Tag,
};

use super::unit::{RolloutUnit, StepInfo};
use super::{device_state, keys};
use crate::{devices, firmware};

/// Assigns the next devices of a rollout. It looks at no more than `budget` devices, and lowers the
/// budget by their number.
pub fn expand(unit: &mut RolloutUnit<'_>, name: &Id, budget: &mut usize) -> Result<(), StateError> {
    let rollout = unit.rollout(name)?;
    if rollout.status != RolloutStatus::Running || rollout.expanded || *budget == 0 {
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

fn is_selected(selection: &Selection, device: &Device) -> bool {
    let Selection::Filter {
        district,
        model,
        hardware_class,
        tag,
    } = selection
    else {
        return true;
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

fn assign_if_eligible(
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
            unit.edit(name)?.counts.skipped += 1;
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
