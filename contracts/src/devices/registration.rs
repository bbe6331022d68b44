//! Registration of devices, and the changes of an operator to a registered one: its gateway, its
//! tags.

use lamplighter_state::Overlay;
use lamplighter_types::crypto::{SignedMessage, verify_all};
use lamplighter_types::{
    AccountKind, Device, DeviceState, DeviceStatus, Fact, Id, KeyPurpose, NewDevice, Notification,
    Role, Scope, Tag,
};

use super::{DevicesError, device_of_operator, keys};
use crate::{Context, ExecutionError, rollouts, users};

/// Registers devices, all or none.
pub(super) fn register_all(
    overlay: &mut Overlay,
    context: &Context,
    devices: &[NewDevice],
) -> Result<Vec<Notification>, ExecutionError> {
    require_possession(context, devices)?;
    let mut registered = Vec::with_capacity(devices.len());
    for device in devices {
        registered.push(register(overlay, context, device)?);
    }
    let changes = registered.iter().map(|device| (None, device));
    rollouts::devices_changed(overlay, &context.block, changes)?;
    let registered = registered.iter();
    Ok(registered
        .map(|device| Notification::about_device(device, Fact::DeviceRegistered))
        .collect())
}

/// Requires that each key has signed for its device, and that a device without a key brings no such
/// signature. The signatures are verified together.
fn require_possession(context: &Context, devices: &[NewDevice]) -> Result<(), DevicesError> {
    let chain_id = &context.block.chain_id;
    let mut proofs = Vec::new();
    for new in devices {
        match (new.key, new.proof) {
            (Some(key), Some(proof)) => {
                let message = KeyPurpose::Device.message(chain_id, &new.device, &key);
                proofs.push((&new.device, key, message, proof));
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {
                return Err(DevicesError::WrongProof(new.device.clone()));
            }
        }
    }
    let items: Vec<_> = proofs
        .iter()
        .map(|(_, key, message, proof)| SignedMessage {
            key: *key,
            message,
            signature: *proof,
        })
        .collect();
    let mut verdicts = verify_all(&items).into_iter().zip(&proofs);
    match verdicts.find(|(good, _)| !good) {
        Some((_, (device, ..))) => Err(DevicesError::WrongProof((*device).clone())),
        None => Ok(()),
    }
}

fn register(
    overlay: &mut Overlay,
    context: &Context,
    new: &NewDevice,
) -> Result<Device, ExecutionError> {
    let NewDevice {
        device: name,
        owner,
        model,
        hardware_class,
        district,
        gateway,
        key,
        // Verified for all devices of the transaction at once.
        proof: _,
        tags,
    } = new;
    context.require(Role::Operator, district)?;
    if overlay.exists(&keys::device(name))? {
        return Err(DevicesError::DeviceExists(name.clone()).into());
    }
    if !overlay.exists(&users::keys::organization(owner))? {
        return Err(DevicesError::UnknownOrganization(owner.clone()).into());
    }
    if let Some(gateway) = gateway {
        require_gateway(overlay, gateway, district)?;
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
        registered_height: context.block.height,
    };
    overlay.put(&keys::device(name), &device);
    overlay.put(&keys::state(name), &fresh_state());
    overlay.put(&keys::by_district(district, name), name);
    overlay.put(&keys::by_owner(owner, name), name);
    Ok(device)
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
        key_rotations: 0,
    }
}

fn sorted(tags: &[Tag]) -> Vec<Tag> {
    let mut tags = tags.to_vec();
    tags.sort();
    tags
}

fn require_gateway(overlay: &Overlay, name: &Id, district: &Scope) -> Result<(), ExecutionError> {
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

pub(super) fn assign_gateway(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    gateway: Option<&Id>,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = device_of_operator(overlay, context, name)?;
    let was = device.clone();
    if let Some(gateway) = gateway {
        require_gateway(overlay, gateway, &device.district)?;
    }
    let mut former = None;
    if device.gateway.as_ref() != gateway {
        former = move_to_gateway(overlay, &mut device, gateway.cloned());
    }
    let changes = [(Some(&was), &device)].into_iter();
    rollouts::devices_changed(overlay, &context.block, changes)?;
    let fact = Fact::DeviceAssigned {
        gateway: gateway.cloned(),
    };
    let mut notifications = vec![Notification::about_device(&device, fact.clone())];
    // The gateway that lost the device follows its own name only, so it gets one as well.
    if former.is_some() {
        let before = Device {
            gateway: former,
            ..device
        };
        notifications.push(Notification::about_device(&before, fact));
    }
    Ok(notifications)
}

/// Stores the device under its new gateway; returns the former one.
pub(super) fn move_to_gateway(
    overlay: &mut Overlay,
    device: &mut Device,
    to: Option<Id>,
) -> Option<Id> {
    let former = std::mem::replace(&mut device.gateway, to);
    if let Some(former) = &former {
        overlay.delete(&keys::by_gateway(former, &device.device));
    }
    if let Some(gateway) = &device.gateway {
        overlay.put(&keys::by_gateway(gateway, &device.device), &device.device);
    }
    overlay.put(&keys::device(&device.device), device);
    former
}

pub(super) fn tag(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    tags: &[Tag],
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = device_of_operator(overlay, context, name)?;
    let was = device.clone();
    device.tags = sorted(tags);
    overlay.put(&keys::device(name), &device);
    let changes = [(Some(&was), &device)].into_iter();
    rollouts::devices_changed(overlay, &context.block, changes)?;
    Ok(vec![Notification::about_device(
        &device,
        Fact::DeviceTagged,
    )])
}
