//! The actions on devices: checks and dispatch.

use lamplighter_state::Overlay;
use lamplighter_types::limits::{LIST_ITEMS_MAX, SECURITY_COUNTER_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{DevicesAction, NewDevice, Notification, Tag};

use super::{
    DevicesError, iotregistry, lifecycle, ownership_transfer, registration, repair, reports,
};
use crate::{Context, ExecutionError, validate};

/// Checks shape and size.
pub fn check(action: &DevicesAction) -> Result<(), DevicesError> {
    match action {
        DevicesAction::Register { devices } => {
            validate::list("devices", devices, LIST_ITEMS_MAX)?;
            devices.iter().try_for_each(NewDevice::check)?;
        }
        DevicesAction::Tag { device: _, tags } => Tag::check_all(tags)?,
        DevicesAction::Suspend { device: _, reason }
        | DevicesAction::Decommission { device: _, reason } => {
            validate::text("reason", reason, TEXT_BYTES_MAX)?;
        }
        DevicesAction::ReportInventory { reports } => {
            validate::list("reports", reports, LIST_ITEMS_MAX)?;
            for report in reports {
                let got = report.security_counter;
                if got > SECURITY_COUNTER_MAX {
                    return Err(DevicesError::SecurityCounter(got));
                }
                validate::number("counter", report.counter)?;
            }
        }
        DevicesAction::RotateKeys { rotations } => {
            validate::list("rotations", rotations, LIST_ITEMS_MAX)?;
            rotations.iter().try_for_each(repair::check_rotation)?;
        }
        DevicesAction::LinkRegistrant { registrant, organization: _ } => {
            validate::name("registrant", registrant, iotregistry::REGISTRANT_BYTES)?;
        }
        DevicesAction::AssignGateway { device: _, gateway: _ }
        | DevicesAction::OfferTransfer { device: _, to: _ }
        | DevicesAction::WithdrawTransfer { device: _ }
        | DevicesAction::AcceptTransfer { device: _ }
        | DevicesAction::Resume { device: _ }
        // The registry validates these itself, with the error codes of the original.
        | DevicesAction::IotRegistry { function: _, argument: _ } => {}
    }
    Ok(())
}

/// Carries out a checked action.
pub fn execute(
    overlay: &mut Overlay,
    context: &Context,
    action: &DevicesAction,
) -> Result<Vec<Notification>, ExecutionError> {
    match action {
        DevicesAction::Register { devices } => {
            registration::register_all(overlay, context, devices)
        }
        DevicesAction::AssignGateway { device, gateway } => {
            registration::assign_gateway(overlay, context, device, gateway.as_ref())
        }
        DevicesAction::Tag { device, tags } => registration::tag(overlay, context, device, tags),
        DevicesAction::OfferTransfer { device, to } => {
            ownership_transfer::offer(overlay, context, device, to)
        }
        DevicesAction::WithdrawTransfer { device } => {
            ownership_transfer::withdraw(overlay, context, device)
        }
        DevicesAction::AcceptTransfer { device } => {
            ownership_transfer::accept(overlay, context, device)
        }
        DevicesAction::Suspend { device, reason } => {
            lifecycle::suspend(overlay, context, device, reason)
        }
        DevicesAction::Resume { device } => lifecycle::resume(overlay, context, device),
        DevicesAction::Decommission { device, reason } => {
            lifecycle::decommission(overlay, context, device, reason)
        }
        DevicesAction::ReportInventory { reports } => {
            reports::report_inventory(overlay, context, reports)
        }
        DevicesAction::RotateKeys { rotations } => rotations
            .iter()
            .map(|rotation| repair::rotate_key(overlay, context, rotation))
            .collect(),
        DevicesAction::IotRegistry { function, argument } => {
            iotregistry::state::invoke(overlay, context, function, argument)
        }
        DevicesAction::LinkRegistrant {
            registrant,
            organization,
        } => iotregistry::state::link(overlay, context, registrant, organization),
    }
}
