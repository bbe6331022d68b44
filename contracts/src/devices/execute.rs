use lamplighter_state::Overlay;
use lamplighter_types::limits::{ID_BYTES_MAX, LIST_ITEMS_MAX, SMALL_LIST_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{
    AccountKind, Device, DeviceState, DeviceStatus, DevicesAction, Fact, Id, InventoryReport,
    NewDevice, Notification, Role, Scope, Tag,
};

use super::{DevicesError, TAG_VALUE_BYTES_MAX, keys, registry, report, title};
use crate::shape::{self, ShapeError};
use crate::{Context, ExecutionError, about_device, rollouts, users};

/// Checks shape and size.
pub fn check(action: &DevicesAction) -> Result<(), DevicesError> {
    match action {
        DevicesAction::Register { devices } => {
            shape::list("devices", devices, LIST_ITEMS_MAX)?;
            devices.iter().try_for_each(check_new)?;
        }
        DevicesAction::Tag { device: _, tags } => check_tags(tags)?,
        DevicesAction::Suspend { device: _, reason }
        | DevicesAction::Decommission { device: _, reason } => {
            shape::text("reason", reason, TEXT_BYTES_MAX)?;
        }
        DevicesAction::ReportInventory { reports } => {
            shape::list("reports", reports, LIST_ITEMS_MAX)?;
            for report in reports {
                shape::number("security_counter", report.security_counter)?;
                shape::number("counter", report.counter)?;
            }
        }
        DevicesAction::LinkRegistrant { registrant, organization: _ } => {
            shape::name("registrant", registrant, registry::REGISTRANT_BYTES)?;
        }
        DevicesAction::AssignGateway { device: _, gateway: _ }
        | DevicesAction::OfferTransfer { device: _, to: _ }
        | DevicesAction::WithdrawTransfer { device: _ }
        | DevicesAction::AcceptTransfer { device: _ }
        | DevicesAction::Resume { device: _ }
        // The registry judges these itself, with the original's verdicts.
        | DevicesAction::IotRegistry { function: _, argument: _ } => {}
    }
    Ok(())
}

fn check_new(device: &NewDevice) -> Result<(), DevicesError> {
    let NewDevice {
        device: _,
        owner: _,
        model,
        hardware_class,
        district: _,
        gateway: _,
        key,
        tags,
    } = device;
    shape::name("model", model, ID_BYTES_MAX)?;
    shape::name("hardware_class", hardware_class, ID_BYTES_MAX)?;
    if let Some(key) = key
        && !key.is_acceptable()
    {
        return Err(DevicesError::WeakKey(*key));
    }
    Ok(check_tags(tags)?)
}

fn check_tags(tags: &[Tag]) -> Result<(), ShapeError> {
    shape::at_most("tags", tags, SMALL_LIST_MAX)?;
    for Tag { name, value } in tags {
        shape::name("tag", name, ID_BYTES_MAX)?;
        shape::text("tag", value, TAG_VALUE_BYTES_MAX)?;
    }
    shape::distinct("tags", tags.iter().map(|tag| &tag.name))
}

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &DevicesAction,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        DevicesAction::Register { devices } => devices
            .iter()
            .map(|device| register(overlay, context, device))
            .collect(),
        DevicesAction::AssignGateway { device, gateway } => {
            assign(overlay, context, device, gateway.as_ref())
        }
        DevicesAction::Tag { device, tags } => tag(overlay, context, device, tags),
        DevicesAction::OfferTransfer { device, to } => title::offer(overlay, context, device, to),
        DevicesAction::WithdrawTransfer { device } => title::withdraw(overlay, context, device),
        DevicesAction::AcceptTransfer { device } => title::accept(overlay, context, device),
        DevicesAction::Suspend { device, reason } => suspend(overlay, context, device, reason),
        DevicesAction::Resume { device } => resume(overlay, context, device),
        DevicesAction::Decommission { device, reason } => {
            decommission(overlay, context, device, reason)
        }
        DevicesAction::ReportInventory { reports } => inventory(overlay, context, reports),
        DevicesAction::IotRegistry { function, argument } => {
            registry::invoke(overlay, context, function, argument)
        }
        DevicesAction::LinkRegistrant {
            registrant,
            organization,
        } => registry::link(overlay, context, registrant, organization),
    }
}

fn inventory(
    overlay: &mut Overlay,
    context: &Context,
    reports: &[InventoryReport],
) -> Result<Vec<Notification>, ExecutionError> {
    let mut notifications = Vec::new();
    for report in reports {
        notifications.extend(report::inventory(overlay, context, report)?);
    }
    Ok(notifications)
}

fn register(
    overlay: &mut Overlay,
    context: &Context,
    new: &NewDevice,
) -> Result<Notification, ExecutionError> {
    let NewDevice {
        device: name,
        owner,
        model,
        hardware_class,
        district,
        gateway,
        key,
        tags,
    } = new;
    context.demand(Role::Operator, district)?;
    if overlay.exists(&keys::device(name))? {
        return Err(DevicesError::DeviceExists(name.clone()).into());
    }
    if !overlay.exists(&users::keys::organization(owner))? {
        return Err(DevicesError::UnknownOrganization(owner.clone()).into());
    }
    if let Some(gateway) = gateway {
        demand_gateway(overlay, gateway, district)?;
        overlay.put(&keys::by_gateway(gateway, name), name);
    }
    if let Some(key) = key {
        if let Some(device) = overlay.get(&keys::by_key(key))? {
            return Err(DevicesError::KeyTaken { key: *key, device }.into());
        }
        overlay.put(&keys::by_key(key), name);
    }
    let device = Device {
        device: name.clone(),
        owner: owner.clone(),
        offered_to: None,
        model: model.clone(),
        hardware_class: hardware_class.clone(),
        district: district.clone(),
        gateway: gateway.clone(),
        key: *key,
        tags: sorted(tags),
        status: DeviceStatus::Active,
        registered_height: context.height,
    };
    overlay.put(&keys::device(name), &device);
    overlay.put(&keys::state(name), &fresh_state());
    overlay.put(&keys::by_district(district, name), name);
    overlay.put(&keys::by_owner(owner, name), name);
    Ok(about_device(&device, Fact::DeviceRegistered))
}

fn fresh_state() -> DeviceState {
    DeviceState {
        version: None,
        release: None,
        digest: None,
        security_counter: 0,
        report_counter: 0,
        drifted: false,
        active_rollout: None,
        confirmed: Vec::new(),
    }
}

fn sorted(tags: &[Tag]) -> Vec<Tag> {
    let mut tags = tags.to_vec();
    tags.sort();
    tags
}

fn demand_gateway(overlay: &Overlay, name: &Id, district: &Scope) -> Result<(), ExecutionError> {
    let account = users::account(overlay, name)?;
    let Some(account) = account.filter(|a| a.kind == AccountKind::Gateway && !a.disabled) else {
        return Err(DevicesError::NotAGateway(name.clone()).into());
    };
    if !account.district.covers(district) {
        let (gateway, district) = (name.clone(), district.clone());
        return Err(DevicesError::GatewayElsewhere { gateway, district }.into());
    }
    Ok(())
}

/// The device, not decommissioned, if the sender operates its district.
pub(super) fn operated(
    overlay: &Overlay,
    context: &Context,
    name: &Id,
) -> Result<Device, ExecutionError> {
    let device = overlay
        .get(&keys::device(name))?
        .ok_or_else(|| DevicesError::UnknownDevice(name.clone()))?;
    context.demand(Role::Operator, &device.district)?;
    match device.status {
        DeviceStatus::Active | DeviceStatus::Suspended => Ok(device),
        DeviceStatus::Decommissioned => Err(wrong_status(device)),
    }
}

fn wrong_status(device: Device) -> ExecutionError {
    DevicesError::WrongStatus {
        device: device.device,
        status: device.status,
    }
    .into()
}

fn assign(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    gateway: Option<&Id>,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = operated(overlay, context, name)?;
    if let Some(gateway) = gateway {
        demand_gateway(overlay, gateway, &device.district)?;
    }
    let mut left = None;
    if device.gateway.as_ref() != gateway {
        left = move_to_gateway(overlay, &mut device, gateway.cloned());
    }
    let fact = Fact::DeviceAssigned {
        gateway: gateway.cloned(),
    };
    let mut notifications = vec![about_device(&device, fact.clone())];
    // The gateway that lost the device follows its own name, so it is told as well.
    if left.is_some() {
        let former = Device {
            gateway: left,
            ..device
        };
        notifications.push(about_device(&former, fact));
    }
    Ok(notifications)
}

/// Stores the device under its new gateway; returns the one before.
fn move_to_gateway(overlay: &mut Overlay, device: &mut Device, to: Option<Id>) -> Option<Id> {
    let left = std::mem::replace(&mut device.gateway, to);
    if let Some(left) = &left {
        overlay.delete(&keys::by_gateway(left, &device.device));
    }
    if let Some(gateway) = &device.gateway {
        overlay.put(&keys::by_gateway(gateway, &device.device), &device.device);
    }
    overlay.put(&keys::device(&device.device), device);
    left
}

fn tag(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    tags: &[Tag],
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = operated(overlay, context, name)?;
    device.tags = sorted(tags);
    overlay.put(&keys::device(name), &device);
    Ok(vec![about_device(&device, Fact::DeviceTagged)])
}

fn suspend(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = operated(overlay, context, name)?;
    if device.status != DeviceStatus::Active {
        return Err(wrong_status(device));
    }
    device.status = DeviceStatus::Suspended;
    overlay.put(&keys::device(name), &device);
    let reason = reason.to_owned();
    Ok(vec![about_device(
        &device,
        Fact::DeviceSuspended { reason },
    )])
}

fn resume(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = operated(overlay, context, name)?;
    if device.status != DeviceStatus::Suspended {
        return Err(wrong_status(device));
    }
    device.status = DeviceStatus::Active;
    overlay.put(&keys::device(name), &device);
    Ok(vec![about_device(&device, Fact::DeviceResumed)])
}

/// The notification still names the gateway, so that it hears of it.
fn decommission(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    reason: &str,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = operated(overlay, context, name)?;
    let reason = reason.to_owned();
    let told = about_device(&device, Fact::DeviceDecommissioned { reason });
    let mut notifications = vec![told];
    notifications.extend(rollouts::device_left(
        overlay,
        &rollouts::block_of(context),
        &device,
    )?);
    device.status = DeviceStatus::Decommissioned;
    device.offered_to = None;
    move_to_gateway(overlay, &mut device, None);
    Ok(notifications)
}
