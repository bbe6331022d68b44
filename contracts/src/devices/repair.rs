//! Keys and numbers of a device: rotation by the device itself, and what governance does for it.
//! Governance sets its numbers, replaces its key, or releases its hardware.

use lamplighter_state::Overlay;
use lamplighter_types::limits::{KEY_ROTATIONS_PER_DEVICE_MAX, SECURITY_COUNTER_MAX};
use lamplighter_types::{
    Device, DeviceCounters, DeviceState, DeviceStatus, Fact, Id, KeyPurpose, KeyRotation,
    Notification, PublicKey, Signature,
};

use super::access::{require_active, wrong_status};
use super::reports::{AcceptedReport, accept_report};
use super::{DevicesError, keys};
use crate::validate::{self, FieldError};
use crate::{BlockContext, Context, ExecutionError, events};

/// Checks the shape of a rotation.
pub(super) fn check_rotation(rotation: &KeyRotation) -> Result<(), DevicesError> {
    let KeyRotation {
        device: _,
        new_key,
        proof: _,
        counter,
        signature: _,
    } = rotation;
    validate::number("counter", *counter)?;
    if new_key.is_acceptable() {
        Ok(())
    } else {
        Err(DevicesError::WeakKey(*new_key))
    }
}

/// Replaces the key of a device as its present key has signed. The numbers of the device go on: it
/// is the same device, and nothing that it signed before is accepted again.
pub(super) fn rotate_key(
    overlay: &mut Overlay,
    context: &Context,
    rotation: &KeyRotation,
) -> Result<Notification, ExecutionError> {
    let KeyRotation {
        device: name,
        new_key,
        proof,
        counter,
        signature: _,
    } = rotation;
    let AcceptedReport {
        mut device,
        mut state,
        attested,
    } = accept_report(overlay, context, name, rotation, *counter)?;
    require_active(&device)?;
    if device.key.is_none() {
        return Err(DevicesError::NoKey(name.clone()).into());
    }
    if !attested {
        return Err(DevicesError::Unsigned(name.clone()).into());
    }
    if state.key_rotations >= KEY_ROTATIONS_PER_DEVICE_MAX {
        return Err(DevicesError::TooManyRotations(name.clone()).into());
    }
    state.key_rotations += 1;
    let notification = set_key(overlay, &context.block, &mut device, new_key, proof)?;
    overlay.put(&keys::state(name), &state);
    Ok(notification)
}

/// Gives a device another key. The former one stays known.
fn set_key(
    overlay: &mut Overlay,
    block: &BlockContext,
    device: &mut Device,
    key: &PublicKey,
    proof: &Signature,
) -> Result<Notification, ExecutionError> {
    let name = &device.device;
    if !key.is_acceptable() {
        return Err(DevicesError::WeakKey(*key).into());
    }
    if let Some(device) = overlay.get(&keys::by_key(key))? {
        return Err(DevicesError::KeyTaken { key: *key, device }.into());
    }
    KeyPurpose::Device
        .verify(&block.chain_id, name, key, proof)
        .map_err(|_| DevicesError::WrongProof(name.clone()))?;
    overlay.put(&keys::by_key(key), name);
    device.key = Some(*key);
    overlay.put(&keys::device(&device.device), device);
    let fact = Fact::DeviceKeyReplaced { key: *key };
    Ok(Notification::about_device(device, fact))
}

/// Checks the numbers of a reset; there is at least one.
pub(crate) fn check_counters(counters: &DeviceCounters) -> Result<(), DevicesError> {
    let DeviceCounters {
        report_counter,
        security_counter,
        event_sequence,
    } = counters;
    if report_counter
        .or(*security_counter)
        .or(*event_sequence)
        .is_none()
    {
        let field = "counters";
        return Err(FieldError::Empty { field }.into());
    }
    validate::number("report_counter", report_counter.unwrap_or(0))?;
    validate::number("event_sequence", event_sequence.unwrap_or(0))?;
    match *security_counter {
        Some(got) if got > SECURITY_COUNTER_MAX => Err(DevicesError::SecurityCounter(got)),
        Some(_) | None => Ok(()),
    }
}

/// Sets numbers of a device in use, e.g. after a gateway has used them up.
///
/// The numbers of reports and events of a device with a key are not lowered: its gateway could send
/// again what the device has signed. [`replace_key`] lets them begin anew. The security counter may
/// be set to any number: no signature depends on it.
pub(crate) fn reset(
    overlay: &mut Overlay,
    name: &Id,
    counters: &DeviceCounters,
) -> Result<Vec<Notification>, ExecutionError> {
    let device = in_use(overlay, name)?;
    let mut state = state_of(overlay, name)?;
    let highest = events::cursor(overlay, name)?.highest;
    let DeviceCounters {
        report_counter,
        security_counter,
        event_sequence,
    } = *counters;
    let lowers_reports = report_counter.is_some_and(|counter| counter < state.report_counter);
    let lowers_events = event_sequence.is_some_and(|sequence| sequence < highest);
    if device.key.is_some() && (lowers_reports || lowers_events) {
        return Err(DevicesError::KeyProtects(name.clone()).into());
    }
    state.report_counter = report_counter.unwrap_or(state.report_counter);
    state.security_counter = security_counter.unwrap_or(state.security_counter);
    overlay.put(&keys::state(name), &state);
    let fact = Fact::DeviceReset {
        counters: *counters,
    };
    let mut notifications = vec![Notification::about_device(&device, fact)];
    if let Some(highest) = event_sequence {
        notifications.extend(events::renumber(overlay, &device, highest)?);
    }
    Ok(notifications)
}

/// Replaces the key of a device in use, e.g. after its electronics were exchanged, or gives it its
/// first one. Its reports and events are numbered from 1 again, as those of a new Thing; the
/// security counter stays.
pub(crate) fn replace_key(
    overlay: &mut Overlay,
    block: &BlockContext,
    name: &Id,
    key: &PublicKey,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = in_use(overlay, name)?;
    let mut state = state_of(overlay, name)?;
    let mut notifications = vec![set_key(overlay, block, &mut device, key, proof)?];
    state.report_counter = 0;
    overlay.put(&keys::state(name), &state);
    notifications.extend(events::renumber(overlay, &device, 0)?);
    Ok(notifications)
}

/// Lets the key of a decommissioned device be registered under another id. What it has signed names
/// the former id, and means nothing for the new one.
pub(crate) fn reuse_hardware(
    overlay: &mut Overlay,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = find(overlay, name)?;
    if device.status != DeviceStatus::Decommissioned {
        return Err(wrong_status(&device).into());
    }
    let Some(key) = device.key.take() else {
        return Err(DevicesError::NoKey(name.clone()).into());
    };
    overlay.delete(&keys::by_key(&key));
    overlay.put(&keys::device(name), &device);
    let fact = Fact::HardwareReleased;
    Ok(vec![Notification::about_device(&device, fact)])
}

fn find(overlay: &Overlay, name: &Id) -> Result<Device, ExecutionError> {
    let found = overlay.get(&keys::device(name))?;
    Ok(found.ok_or_else(|| DevicesError::UnknownDevice(name.clone()))?)
}

fn state_of(overlay: &Overlay, name: &Id) -> Result<DeviceState, ExecutionError> {
    let found = overlay.get(&keys::state(name))?;
    Ok(found.ok_or_else(|| DevicesError::UnknownDevice(name.clone()))?)
}

fn in_use(overlay: &Overlay, name: &Id) -> Result<Device, ExecutionError> {
    let device = find(overlay, name)?;
    match device.status {
        DeviceStatus::Active | DeviceStatus::Suspended => Ok(device),
        DeviceStatus::Decommissioned => Err(wrong_status(&device).into()),
    }
}
