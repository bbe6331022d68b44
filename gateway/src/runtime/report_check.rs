//! The check of reports and events of Things before the gateway stores them.

use lamplighter_contracts::validate::{self, FieldError};
use lamplighter_types::limits::{EVENT_DATA_BYTES_MAX, ID_BYTES_MAX, NUMBER_MAX, TEXT_BYTES_MAX};
use lamplighter_types::{DeploymentState, DeviceEvent, DeviceSigned, Hash, Id, KeyPurpose, codec};

use super::device_table::DeviceTable;
use crate::lwm2m::agent::ThingReport;
use crate::spool::OutgoingReport;
use crate::text::sanitize;

/// Why a report or an event is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    #[error("it does not decode")]
    Malformed,
    #[error("a text in it is too long")]
    TooLong,
    #[error("a text in it has a character that is not seen or controls a terminal")]
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

/// The action that a Thing shall take with a report that is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Delete it: it is malformed, and no ledger will ever accept it.
    Discard,
    /// Register again, here or at another gateway.
    Register,
    /// Try again: the ledger or this gateway may get to know the key.
    Retry,
}

impl RejectReason {
    /// The answer to the Thing. It never discards a signed report for a reason that may change.
    pub fn remedy(self) -> Remedy {
        match self {
            Self::Malformed | Self::TooLong | Self::ControlCharacter | Self::SequenceZero => {
                Remedy::Discard
            }
            Self::OtherDevice | Self::Unknown => Remedy::Register,
            Self::Signature | Self::Unsigned => Remedy::Retry,
        }
    }

    /// The code in the dead-letter file.
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

/// The check of a message from the Thing that registered as `endpoint`.
pub struct ReportCheck<'a> {
    pub devices: &'a DeviceTable,
    pub chain_id: &'a Hash,
    pub endpoint: &'a str,
}

impl ReportCheck<'_> {
    /// Checks an encoded [`ThingReport`]. `None`: it is valid and the ledger needs no copy of it.
    pub fn report(&self, bytes: &[u8]) -> Result<Option<OutgoingReport>, RejectReason> {
        match codec::decode(bytes).map_err(|_| RejectReason::Malformed)? {
            ThingReport::Inventory(report) => {
                self.check_author(&report.device, &report)?;
                Ok(Some(OutgoingReport::Inventory(report)))
            }
            ThingReport::Deployment(mut report) => {
                let signed = self.check_author(&report.device, &report)?;
                check_detail(signed, &mut report.detail)?;
                // The ledger cancels by itself: this is only the Thing's answer to the gateway,
                // unless it is asked for its consent.
                let is_asked = report.from == DeploymentState::WaitingConsent;
                let is_answer = report.to == DeploymentState::Cancelled && !is_asked;
                Ok((!is_answer).then_some(OutgoingReport::Deployment(report)))
            }
            ThingReport::KeyRotation(rotation) => {
                self.check_author(&rotation.device, &rotation)?;
                let (device, key) = (&rotation.device, &rotation.new_key);
                KeyPurpose::Device
                    .verify(self.chain_id, device, key, &rotation.proof)
                    .map_err(|_| RejectReason::Signature)?;
                Ok(Some(OutgoingReport::KeyRotation(rotation)))
            }
            ThingReport::Config(mut report) => {
                let signed = self.check_author(&report.device, &report)?;
                check_detail(signed, &mut report.detail)?;
                Ok(Some(OutgoingReport::Config(report)))
            }
        }
    }

    /// Checks an encoded [`DeviceEvent`].
    pub fn event(&self, bytes: &[u8]) -> Result<OutgoingReport, RejectReason> {
        let event: DeviceEvent = codec::decode(bytes).map_err(|_| RejectReason::Malformed)?;
        self.check_author(&event.device, &event)?;
        // The ledger decides which kinds exist.
        check_text("kind", &event.kind, ID_BYTES_MAX)?;
        check_text("data", &event.data, EVENT_DATA_BYTES_MAX)?;
        // The ledger refuses them, and with them all events of the same transaction.
        if event.sequence > NUMBER_MAX || event.time_ms > NUMBER_MAX {
            return Err(RejectReason::Malformed);
        }
        if event.sequence == 0 {
            return Err(RejectReason::SequenceZero);
        }
        Ok(OutgoingReport::Event(event))
    }

    /// Checks that a report about a device comes from it; true if the device signed it. A device
    /// with a key signs everything: no other node of the mesh can speak in its name, and its
    /// address does not matter. A device without a key is known by its address only, and the
    /// gateway vouches for its reports.
    fn check_author<R: DeviceSigned>(&self, name: &Id, report: &R) -> Result<bool, RejectReason> {
        let device = self.devices.get(name).ok_or(RejectReason::Unknown)?;
        match report.verify_device(self.chain_id, device.key.as_ref()) {
            Ok(true) => Ok(true),
            Ok(false) if device.key.is_some() => Err(RejectReason::Unsigned),
            Ok(false) if name.as_str() != self.endpoint => Err(RejectReason::OtherDevice),
            Ok(false) => Ok(false),
            Err(_) => Err(RejectReason::Signature),
        }
    }
}

/// Checks a text for the ledger. A signed text can't be changed; any other is sanitized.
fn check_detail(signed: bool, detail: &mut String) -> Result<(), RejectReason> {
    if !signed {
        *detail = sanitize(detail, TEXT_BYTES_MAX);
    }
    check_text("detail", detail, TEXT_BYTES_MAX)
}

fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), RejectReason> {
    match validate::text(field, text, max) {
        Ok(()) => Ok(()),
        Err(FieldError::TooLong { .. }) => Err(RejectReason::TooLong),
        Err(_) => Err(RejectReason::ControlCharacter),
    }
}
