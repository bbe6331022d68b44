//! What a Thing hands in: read, and held against what the ledger says of the device.

use lamplighter_types::limits::{EVENT_DATA_BYTES_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{DeploymentState, Device, DeviceEvent, DeviceSigned, Hash, Id, codec};

use super::devices::Devices;
use crate::lwm2m::agent::ThingReport;
use crate::spool::Outgoing;

/// Longest kind of an event that is passed on; which kinds there are is for the ledger to say.
const KIND_BYTES_MAX: usize = 64;

/// Why a report is not taken. The Thing is told and forgets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it does not decode")]
    Malformed,
    #[error("it is about another device")]
    OtherDevice,
    #[error("the device is not this gateway's")]
    Unknown,
    #[error("it is not signed by the device's key")]
    Signature,
    #[error("the device has a key and did not sign")]
    Unsigned,
    #[error("a text in it is too long")]
    TooLong,
    #[error("sequence numbers begin at 1")]
    SequenceZero,
}

/// Reads an encoded [`ThingReport`] from the Thing `endpoint`. `None`: it is right and there is
/// nothing to pass on.
pub fn report(
    devices: &Devices,
    chain_id: &Hash,
    endpoint: &str,
    bytes: &[u8],
) -> Result<Option<Outgoing>, Unfit> {
    let report: ThingReport = codec::decode(bytes).map_err(|_| Unfit::Malformed)?;
    match report {
        ThingReport::Inventory(report) => {
            signed(
                chain_id,
                &sender(devices, endpoint, &report.device)?,
                &report,
            )?;
            Ok(Some(Outgoing::Inventory(report)))
        }
        ThingReport::Deployment(report) => {
            signed(
                chain_id,
                &sender(devices, endpoint, &report.device)?,
                &report,
            )?;
            short(&report.detail, TEXT_BYTES_MAX)?;
            // The ledger cancels by itself; what the Thing says of it is only its answer to us.
            let passed_on = report.to != DeploymentState::Cancelled;
            Ok(passed_on.then_some(Outgoing::Deployment(report)))
        }
        ThingReport::Config(report) => {
            signed(
                chain_id,
                &sender(devices, endpoint, &report.device)?,
                &report,
            )?;
            short(&report.detail, TEXT_BYTES_MAX)?;
            Ok(Some(Outgoing::Config(report)))
        }
    }
}

/// Reads an encoded [`DeviceEvent`] from the Thing `endpoint`.
pub fn event(
    devices: &Devices,
    chain_id: &Hash,
    endpoint: &str,
    bytes: &[u8],
) -> Result<Outgoing, Unfit> {
    let event: DeviceEvent = codec::decode(bytes).map_err(|_| Unfit::Malformed)?;
    signed(chain_id, &sender(devices, endpoint, &event.device)?, &event)?;
    short(&event.data, EVENT_DATA_BYTES_MAX)?;
    short(&event.kind, KIND_BYTES_MAX)?;
    match event.sequence {
        0 => Err(Unfit::SequenceZero),
        _ => Ok(Outgoing::Event(event)),
    }
}

fn sender(devices: &Devices, endpoint: &str, device: &Id) -> Result<Device, Unfit> {
    if device.as_str() != endpoint {
        return Err(Unfit::OtherDevice);
    }
    devices.get(device).ok_or(Unfit::Unknown)
}

/// A device with a key signs everything: nobody else in the mesh can speak in its name.
fn signed<R: DeviceSigned>(chain_id: &Hash, device: &Device, report: &R) -> Result<(), Unfit> {
    match report.verify_device(chain_id, device.key.as_ref()) {
        Ok(signed) if signed || device.key.is_none() => Ok(()),
        Ok(_) => Err(Unfit::Unsigned),
        Err(_) => Err(Unfit::Signature),
    }
}

fn short(text: &str, max: usize) -> Result<(), Unfit> {
    if text.len() <= max {
        Ok(())
    } else {
        Err(Unfit::TooLong)
    }
}
