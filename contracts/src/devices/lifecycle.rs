//! The life of a registered device: suspension, resumption, decommissioning.

use lamplighter_state::Overlay;
use lamplighter_types::{DeviceStatus, Fact, Id, Notification};

use super::access::wrong_status;
use super::registration::move_to_gateway;
use super::{device_of_operator, keys};
use crate::{Context, ExecutionError, rollouts};

pub(super) fn suspend(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = device_of_operator(overlay, context, name)?;
    if device.status != DeviceStatus::Active {
        return Err(wrong_status(&device).into());
    }
    device.status = DeviceStatus::Suspended;
    overlay.put(&keys::device(name), &device);
    let reason = reason.to_owned();
    Ok(vec![Notification::about_device(
        &device,
        Fact::DeviceSuspended { reason },
    )])
}

pub(super) fn resume(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = device_of_operator(overlay, context, name)?;
    if device.status != DeviceStatus::Suspended {
        return Err(wrong_status(&device).into());
    }
    let before = device.clone();
    device.status = DeviceStatus::Active;
    overlay.put(&keys::device(name), &device);
    let changes = [(Some(&before), &device)].into_iter();
    rollouts::devices_changed(overlay, &context.block, changes)?;
    Ok(vec![Notification::about_device(
        &device,
        Fact::DeviceResumed,
    )])
}

/// Decommissions a device. The notification still names the gateway, so that the gateway gets it.
pub(super) fn decommission(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = device_of_operator(overlay, context, name)?;
    let reason = reason.to_owned();
    let notification = Notification::about_device(&device, Fact::DeviceDecommissioned { reason });
    let mut notifications = vec![notification];
    notifications.extend(rollouts::device_left(overlay, &context.block, &device)?);
    device.status = DeviceStatus::Decommissioned;
    device.offered_to = None;
    move_to_gateway(overlay, &mut device, None);
    Ok(notifications)
}
