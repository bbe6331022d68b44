//! Transfer of the title to a device from one organization to another, with the consent of both.

use lamplighter_state::Overlay;
use lamplighter_types::{Fact, Id, Notification};

use super::{DevicesError, device_of_operator, keys};
use crate::{Context, ExecutionError, users};

fn require_member(context: &Context, organization: &Id) -> Result<(), DevicesError> {
    if context.sender.organization == *organization {
        return Ok(());
    }
    let (account, organization) = (context.sender.account.clone(), organization.clone());
    Err(DevicesError::NotOfOrganization {
        account,
        organization,
    })
}

pub(super) fn offer(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
    to: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = device_of_operator(overlay, context, name)?;
    require_member(context, &device.owner)?;
    if let Some(to) = device.offered_to {
        return Err(DevicesError::Offered {
            device: device.device,
            to,
        }
        .into());
    }
    if device.owner == *to {
        return Err(DevicesError::OwnerAlready(to.clone()).into());
    }
    if !overlay.exists(&users::keys::organization(to))? {
        return Err(DevicesError::UnknownOrganization(to.clone()).into());
    }
    device.offered_to = Some(to.clone());
    overlay.put(&keys::device(name), &device);
    Ok(vec![Notification::about_device(
        &device,
        Fact::TransferOffered { to: to.clone() },
    )])
}

pub(super) fn withdraw(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = device_of_operator(overlay, context, name)?;
    require_member(context, &device.owner)?;
    if device.offered_to.take().is_none() {
        return Err(DevicesError::NotOffered(device.device).into());
    }
    overlay.put(&keys::device(name), &device);
    Ok(vec![Notification::about_device(
        &device,
        Fact::TransferWithdrawn,
    )])
}

pub(super) fn accept(
    overlay: &mut Overlay,
    context: &Context,
    name: &Id,
) -> Result<Vec<Notification>, ExecutionError> {
    let mut device = device_of_operator(overlay, context, name)?;
    let Some(owner) = device.offered_to.take() else {
        return Err(DevicesError::NotOffered(device.device).into());
    };
    require_member(context, &owner)?;
    overlay.delete(&keys::by_owner(&device.owner, name));
    overlay.put(&keys::by_owner(&owner, name), name);
    device.owner = owner.clone();
    overlay.put(&keys::device(name), &device);
    Ok(vec![Notification::about_device(
        &device,
        Fact::TransferAccepted { owner },
    )])
}
