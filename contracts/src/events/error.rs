use lamplighter_types::Id;

use crate::refusal::refusals;
use crate::validate::FieldError;

refusals! {
    /// Why the events contract refuses an action.
    pub enum EventsError [Field(FieldError)] {
        UnknownKind(kind: String) = "events.unknown_kind",
            "{kind} is neither a known kind of events nor x- with letters, digits, '.', '_' or '-'";
        SequenceZero = "events.sequence_zero",
            "sequence numbers begin at 1";
        SequenceUsed { device: Id, sequence: u64 } = "events.sequence_used",
            "the sequence number {sequence} of {device} is used, or lost in a gap that was closed";
        SequenceTooFar { device: Id, sequence: u64, highest: u64 } = "events.sequence_too_far",
            "the sequence number {sequence} of {device} is too far above {highest}";
        WrongSignature { device: Id, sequence: u64 } = "events.wrong_signature",
            "event {sequence} of {device} is not signed by the device's key";
        Unsigned { device: Id, sequence: u64 } = "events.unsigned",
            "event {sequence} of {device} is not signed, and the device has a key";
        UnknownAlarm { device: Id, sequence: u64 } = "events.unknown_alarm",
            "there is no open alarm {sequence} of {device}";
        Acknowledged { device: Id, sequence: u64 } = "events.acknowledged",
            "alarm {sequence} of {device} is acknowledged already";
        Cleared { device: Id, sequence: u64 } = "events.cleared",
            "alarm {sequence} of {device} is cleared already";
    }
}
