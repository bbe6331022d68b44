//! Access: the device of an action, if the sender may act on it.

use lamplighter_state::Overlay;
use lamplighter_types::{Device, DeviceStatus, Id, Role};

use super::{DevicesError, keys};
use crate::{Context, ExecutionError};

/// The device, not decommissioned, if the sender operates its district.
pub(super) fn device_of_operator(
    overlay: &Overlay,
    context: &Context,
    name: &Id,
) -> Result<Device, ExecutionError> {
    let device = overlay
        .get(&keys::device(name))?
        .ok_or_else(|| DevicesError::UnknownDevice(name.clone()))?;
    context.require(Role::Operator, &device.district)?;
    match device.status {
        DeviceStatus::Active | DeviceStatus::Suspended => Ok(device),
        DeviceStatus::Decommissioned => Err(wrong_status(&device).into()),
    }
}

pub(super) fn wrong_status(device: &Device) -> DevicesError {
    DevicesError::WrongStatus {
        device: device.device.clone(),
        status: device.status,
    }
}

/// The device, if the sender is its gateway.
pub(crate) fn device_of_gateway(
    overlay: &Overlay,
    context: &Context,
    name: &Id,
) -> Result<Device, ExecutionError> {
    let device = overlay
        .get(&keys::device(name))?
        .ok_or_else(|| DevicesError::UnknownDevice(name.clone()))?;
    if device.gateway.as_ref() != Some(&context.sender.account) {
        let (device, account) = (device.device, context.sender.account.clone());
        return Err(DevicesError::NotYourDevice { device, account }.into());
    }
    Ok(device)
}

/// Requires that a device is neither suspended nor decommissioned.
pub fn require_active(device: &Device) -> Result<(), DevicesError> {
    match device.status {
        DeviceStatus::Active => Ok(()),
        DeviceStatus::Suspended | DeviceStatus::Decommissioned => Err(wrong_status(device)),
    }
}
