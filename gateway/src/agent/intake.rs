//! What a Thing hands in: read, and held against what the ledger says of the device.

use lamplighter_contracts::validate::{self, FieldError};
use lamplighter_types::limits::{EVENT_DATA_BYTES_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{DeploymentState, DeviceEvent, DeviceSigned, Hash, Id, codec};

use super::devices::Devices;
use super::text::clean;
use crate::lwm2m::agent::ThingReport;
use crate::spool::Outgoing;

/// Longest kind of an event that is passed on; which kinds there are is for the ledger to say.
const KIND_BYTES_MAX: usize = 64;

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it does not decode")]
    Malformed,
    #[error("a text in it is too long")]
    TooLong,
    #[error("a text in it has a control character")]
    ControlCharacter,
    #[error("sequence numbers begin at 1")]
    SequenceZero,
    #[error("it is about another device than the one that registered from this address")]
    OtherDevice,
    #[error("the device is not this gateway's")]
    Unknown,
    #[error("it is not signed by the key that is known of the device")]
    Signature,
    #[error("the device has a key and did not sign")]
    Unsigned,
}

/// What the Thing does with a report that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is the report itself: no ledger will ever take it.
    Forget,
    /// Register again, here or at another gateway.
    Register,
    /// Try again: the ledger or this gateway may learn of the key.
    Wait,
}

impl Unfit {
    /// What the Thing is told to do. A signed report is never given up for what may change.
    pub fn remedy(self) -> Remedy {
        match self {
            Self::Malformed | Self::TooLong | Self::ControlCharacter | Self::SequenceZero => {
                Remedy::Forget
            }
            Self::OtherDevice | Self::Unknown => Remedy::Register,
            Self::Signature | Self::Unsigned => Remedy::Wait,
        }
    }

    /// For the file of refused reports.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "gateway.malformed",
            Self::TooLong => "gateway.too_long",
            Self::ControlCharacter => "gateway.control_character",
            Self::SequenceZero => "gateway.sequence_zero",
            Self::OtherDevice => "gateway.other_device",
            Self::Unknown => "gateway.unknown_device",
            Self::Signature => "gateway.signature",
            Self::Unsigned => "gateway.unsigned",
        }
    }
}

/// Reads an encoded [`ThingReport`] from the Thing that registered as `endpoint`. `None`: it is
/// right and there is nothing to pass on.
pub fn report(
    devices: &Devices,
    chain_id: &Hash,
    endpoint: &str,
    bytes: &[u8],
) -> Result<Option<Outgoing>, Unfit> {
    let report: ThingReport = codec::decode(bytes).map_err(|_| Unfit::Malformed)?;
    let judge = Judge {
        devices,
        chain_id,
        endpoint,
    };
    match report {
        ThingReport::Inventory(report) => {
            judge.sender(&report.device, &report)?;
            Ok(Some(Outgoing::Inventory(report)))
        }
        ThingReport::Deployment(mut report) => {
            let said = judge.sender(&report.device, &report)?;
            fit(said, &mut report.detail)?;
            // The ledger cancels by itself; what the Thing says of it is only its answer to us.
            let passed_on = report.to != DeploymentState::Cancelled;
            Ok(passed_on.then_some(Outgoing::Deployment(report)))
        }
        ThingReport::Config(mut report) => {
            let said = judge.sender(&report.device, &report)?;
            fit(said, &mut report.detail)?;
            Ok(Some(Outgoing::Config(report)))
        }
    }
}

/// Reads an encoded [`DeviceEvent`] from the Thing that registered as `endpoint`.
pub fn event(
    devices: &Devices,
    chain_id: &Hash,
    endpoint: &str,
    bytes: &[u8],
) -> Result<Outgoing, Unfit> {
    let event: DeviceEvent = codec::decode(bytes).map_err(|_| Unfit::Malformed)?;
    let judge = Judge {
        devices,
        chain_id,
        endpoint,
    };
    judge.sender(&event.device, &event)?;
    short(&event.data, EVENT_DATA_BYTES_MAX)?;
    short(&event.kind, KIND_BYTES_MAX)?;
    match event.sequence {
        0 => Err(Unfit::SequenceZero),
        _ => Ok(Outgoing::Event(event)),
    }
}

/// Who said something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The device, by its signature.
    Device,
    /// Somebody at the device's address; the gateway vouches for it.
    Address,
}

struct Judge<'a> {
    devices: &'a Devices,
    chain_id: &'a Hash,
    endpoint: &'a str,
}

impl Judge<'_> {
    /// A device with a key signs everything: nobody else in the mesh can speak in its name, and
    /// from which address it speaks does not matter. Of one without a key only that is known.
    fn sender<R: DeviceSigned>(&self, name: &Id, report: &R) -> Result<Said, Unfit> {
        let device = self.devices.get(name).ok_or(Unfit::Unknown)?;
        match report.verify_device(self.chain_id, device.key.as_ref()) {
            Ok(true) => Ok(Said::Device),
            Ok(false) if device.key.is_some() => Err(Unfit::Unsigned),
            Ok(false) if name.as_str() != self.endpoint => Err(Unfit::OtherDevice),
            Ok(false) => Ok(Said::Address),
            Err(_) => Err(Unfit::Signature),
        }
    }
}

/// A text that is signed must be fit for the ledger as it is; another one is made fit.
fn fit(said: Said, detail: &mut String) -> Result<(), Unfit> {
    if said == Said::Address {
        *detail = clean(detail, TEXT_BYTES_MAX);
    }
    match validate::text("detail", detail, TEXT_BYTES_MAX) {
        Ok(()) => Ok(()),
        Err(FieldError::TooLong { .. }) => Err(Unfit::TooLong),
        Err(_) => Err(Unfit::ControlCharacter),
    }
}

fn short(text: &str, max: usize) -> Result<(), Unfit> {
    if text.len() <= max {
        Ok(())
    } else {
        Err(Unfit::TooLong)
    }
}
