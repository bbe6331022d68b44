//! Repair of a device by governance: its counters set, its key replaced, its hardware released.

use lamplighter_state::Overlay;
use lamplighter_types::{
    Device, DeviceCounters, DeviceStatus, EventCursor, Fact, Id, KeyPurpose, Notification,
    PublicKey, Signature,
};

use super::access::wrong_status;
use super::{DevicesError, keys};
use crate::validate::{self, FieldError};
use crate::{BlockContext, ExecutionError, events};

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
    validate::number("security_counter", security_counter.unwrap_or(0))?;
    validate::number("event_sequence", event_sequence.unwrap_or(0))?;
    Ok(())
}

/// Sets counters of a device in use, e.g. after its electronics were exchanged, or after a gateway
/// used its numbers up.
pub(crate) fn reset(
    overlay: &mut Overlay,
    name: &Id,
    counters: &DeviceCounters,
) -> Result<Vec<Notification>, ExecutionError> {
    let device = in_use(overlay, name)?;
    let mut state =
        super::state(overlay, name)?.ok_or_else(|| DevicesError::UnknownDevice(name.clone()))?;
    let DeviceCounters {
        report_counter,
        security_counter,
        event_sequence,
    } = *counters;
    state.report_counter = report_counter.unwrap_or(state.report_counter);
    state.security_counter = security_counter.unwrap_or(state.security_counter);
    overlay.put(&keys::state(name), &state);
    if let Some(highest) = event_sequence {
        let cursor = overlay.get(&events::keys::cursor(name))?;
        let cursor = EventCursor {
            highest,
            count: cursor.map_or(0, |cursor| cursor.count),
            gaps: Vec::new(),
        };
        overlay.put(&events::keys::cursor(name), &cursor);
    }
    let fact = Fact::DeviceReset {
        counters: *counters,
    };
    Ok(vec![Notification::about_device(&device, fact)])
}

/// Replaces the key of a device in use. The former key is free again: what it signed names this
/// device and means nothing for another one.
pub(crate) fn replace_key(
    overlay: &mut Overlay,
    block: &BlockContext,
    name: &Id,
    key: &PublicKey,
    proof: &Signature,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = in_use(overlay, name)?;
    if let Some(device) = overlay.get(&keys::by_key(key))? {
        return Err(DevicesError::KeyTaken { key: *key, device }.into());
    }
    KeyPurpose::Device
        .verify(&block.chain_id, name, key, proof)
        .map_err(|_| DevicesError::WrongProof(name.clone()))?;
    if let Some(former) = device.key.replace(*key) {
        overlay.delete(&keys::by_key(&former));
    }
    overlay.put(&keys::by_key(key), name);
    overlay.put(&keys::device(name), &device);
    let fact = Fact::DeviceKeyReplaced { key: *key };
    Ok(vec![Notification::about_device(&device, fact)])
}

/// Lets the key of a decommissioned device be registered under another id.
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

fn in_use(overlay: &Overlay, name: &Id) -> Result<Device, ExecutionError> {
    let device = find(overlay, name)?;
    match device.status {
        DeviceStatus::Active | DeviceStatus::Suspended => Ok(device),
        DeviceStatus::Decommissioned => Err(wrong_status(&device).into()),
    }
}
