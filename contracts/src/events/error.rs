use lamplighter_types::{AlarmId, Id};

use crate::ContractError;
use crate::validate::FieldError;

/// Why the events contract refuses an action.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EventsError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("{0:?} is neither a known kind of events nor x- with letters, digits, '.', '_' or '-'")]
    UnknownKind(String),
    #[error("sequence numbers begin at 1")]
    SequenceZero,
    #[error("the sequence number {sequence} of {device} is used, or lost in a gap that was closed")]
    SequenceUsed { device: Id, sequence: u64 },
    #[error("the sequence number {sequence} of {device} is too far above {highest}")]
    SequenceTooFar {
        device: Id,
        sequence: u64,
        highest: u64,
    },
    #[error("event {sequence} of {device} is not signed by the device's key")]
    WrongSignature { device: Id, sequence: u64 },
    #[error("event {sequence} of {device} is not signed, and the device has a key")]
    Unsigned { device: Id, sequence: u64 },
    #[error("there is no open alarm {} of {}", .0.sequence, .0.device)]
    UnknownAlarm(AlarmId),
    #[error("alarm {} of {} is acknowledged already", .0.sequence, .0.device)]
    Acknowledged(AlarmId),
    #[error("alarm {} of {} is cleared already", .0.sequence, .0.device)]
    Cleared(AlarmId),
}

impl ContractError for EventsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Field(error) => error.code(),
            Self::UnknownKind(_) => "events.unknown_kind",
            Self::SequenceZero => "events.sequence_zero",
            Self::SequenceUsed { .. } => "events.sequence_used",
            Self::SequenceTooFar { .. } => "events.sequence_too_far",
            Self::WrongSignature { .. } => "events.wrong_signature",
            Self::Unsigned { .. } => "events.unsigned",
            Self::UnknownAlarm(_) => "events.unknown_alarm",
            Self::Acknowledged(_) => "events.acknowledged",
            Self::Cleared(_) => "events.cleared",
        }
    }
}
