//! Giving the devices of a selection their part in a rollout, a bounded number in each block.

use lamplighter_state::StateError;
use lamplighter_types::{
    DeploymentState, Device, DeviceState, DeviceStatus, Fact, Id, ReleaseManifest, RolloutStatus,
    Selection, Tag,
};

use super::desk::{Desk, StepInfo};
use super::{fleet, keys};
use crate::{about_device, devices, firmware};
use lamplighter_types::SkipReason;

/// Looks at no more than `budget` devices, which it lowers.
pub fn expand(desk: &mut Desk<'_>, name: &Id, budget: &mut usize) -> Result<(), StateError> {
    let rollout = desk.rollout(name)?;
    if rollout.status != RolloutStatus::Running || rollout.expanded || *budget == 0 {
        return Ok(());
    }
    let (selection, after) = (rollout.plan.selection.clone(), rollout.cursor.clone());
    let found = next_devices(desk, &selection, after.as_ref(), *budget)?;
    let exhausted = found.len() < *budget;
    *budget -= found.len();
    let last = found.last().map(|device| device.device.clone());
    for device in &found {
        if is_selected(&selection, device) {
            consider(desk, name, device)?;
        }
    }
    let rollout = desk.edit(name)?;
    rollout.cursor = last.or(after);
    rollout.expanded = exhausted;
    desk.settle(name)
}

fn next_devices(
    desk: &Desk<'_>,
    selection: &Selection,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Device>, StateError> {
    match selection {
        Selection::List { devices } => {
            let seen = after.and_then(|after| devices.iter().position(|device| device == after));
            let rest = devices.iter().skip(seen.map_or(0, |at| at + 1)).take(limit);
            rest.map(|device| fleet::known_device(desk.overlay, device))
                .collect()
        }
        Selection::Filter {
            district,
            model: _,
            hardware_class: _,
            tag: _,
        } => devices::in_district(desk.overlay, district, after, limit),
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

/// What becomes of a selected device.
enum Verdict {
    Assign,
    NotNeeded,
    Skip(SkipReason),
}

fn consider(desk: &mut Desk<'_>, name: &Id, device: &Device) -> Result<(), StateError> {
    if desk
        .overlay
        .exists(&keys::deployment(name, &device.device))?
    {
        return Ok(());
    }
    let release = desk.rollout(name)?.plan.release.clone();
    let manifest = desk.release(&release)?.manifest.clone();
    let state = fleet::state(desk.overlay, &device.device)?;
    let mut verdict = judge(&manifest, device, &state, desk.block.time_ms);
    if matches!(verdict, Verdict::Assign) && !make_room(desk, name, &manifest, device, &state)? {
        verdict = Verdict::Skip(SkipReason::Busy);
    }
    match verdict {
        Verdict::Assign => desk.assign(name, device, DeploymentState::Assigned),
        Verdict::NotNeeded => desk.assign(name, device, DeploymentState::NotNeeded),
        Verdict::Skip(reason) => {
            desk.edit(name)?.counts.skipped += 1;
            let fact = Fact::DeploymentSkipped {
                rollout: name.clone(),
                reason,
            };
            desk.notify(about_device(device, fact));
            Ok(())
        }
    }
}

fn judge(
    manifest: &ReleaseManifest,
    device: &Device,
    state: &DeviceState,
    time_ms: u64,
) -> Verdict {
    if device.status != DeviceStatus::Active {
        return Verdict::Skip(SkipReason::NotActive);
    }
    if device.gateway.is_none() {
        return Verdict::Skip(SkipReason::NoGateway);
    }
    if !manifest.hardware_classes.contains(&device.hardware_class) {
        return Verdict::Skip(SkipReason::HardwareClass);
    }
    if state.active_rollout.is_none() && state.digest == Some(manifest.artifact) {
        return Verdict::NotNeeded;
    }
    if firmware::is_expired(manifest, time_ms) {
        return Verdict::Skip(SkipReason::ReleaseExpired);
    }
    if manifest.security_counter < state.security_counter {
        return Verdict::Skip(SkipReason::SecurityCounter);
    }
    let replaceable = |from| state.version.is_some_and(|running| running >= from);
    if !manifest.replaces_from.is_none_or(replaceable) {
        return Verdict::Skip(SkipReason::RunningVersion);
    }
    let confirmed = |release: &Id| state.confirmed.contains(release);
    if !manifest.depends_on.is_empty() && !manifest.depends_on.iter().any(confirmed) {
        return Verdict::Skip(SkipReason::Dependency);
    }
    Verdict::Assign
}

/// Whether nothing else is at work on the device, or gives way: a deployment of a lower version
/// that is not yet installing.
fn make_room(
    desk: &mut Desk<'_>,
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
    let mut deployment = desk.overlay.get(&key)?.ok_or_else(missing)?;
    let version = desk.release(&deployment.release)?.manifest.version;
    if deployment.state.is_past_return() || version >= manifest.version {
        return Ok(false);
    }
    let info = StepInfo::because(&format!("by the rollout {name}"));
    desk.advance(&mut deployment, device, DeploymentState::Superseded, info)?;
    Ok(true)
}
