//! Device events and alarms.
//!
//! | action | who | refused |
//! |---|---|---|
//! | append | the devices' gateway, all of them active | used sequence number, wrong signature, none though the device has a key, unknown kind |
//! | acknowledge, with a comment | operator of the device's district | unknown alarm, acknowledged already |
//! | clear by hand, with a comment | operator of the device's district | unknown alarm, cleared already |
//!
//! An append is recorded whole or not at all. Events are not state: they are leaves of their
//! block's event root. State is, per device, where its sequence numbers stand, and its alarms.
//!
//! *Sequence numbers* count up from 1 per device. A number that is left out opens a *gap*; an
//! event that comes late fills it. At most
//! [`EVENT_GAPS_MAX`](lamplighter_types::limits::EVENT_GAPS_MAX) gaps are kept: then the two
//! oldest become one, which spans used numbers as well and takes no late events any more. It is
//! known by its size: gaps and events together are then more than the highest number.
//!
//! *Signatures*: a device with a key signs all its events, and they are attested: in its name its
//! gateway can say nothing. For a device without a key its gateway vouches. A gateway that has
//! something to say itself, for instance that a Thing is silent, has a device of its own for it.
//!
//! *Alarms*: of one kind, a device has at most one active alarm, named by the event that raised
//! it. Raising it again changes its severity at most. An event that comes late, after a later one
//! of its kind has raised or cleared, changes no alarm. An alarm stays open until it is both
//! cleared and acknowledged. The time of an event is the Thing's and is not judged; those of
//! alarms are the block's.

mod alarms;
mod cursor;
mod error;
mod execute;
pub mod keys;
mod kinds;
mod read;
#[cfg(test)]
mod tests;

pub use error::EventsError;
pub use execute::{check, execute};
pub use kinds::{FREE_PREFIX, KINDS, is_kind};
pub use read::{alarm, alarms, cursor, open_alarms};

/// A larger jump of a device's sequence numbers is refused: one mistake must not use them all up.
pub const SEQUENCE_JUMP_MAX: u64 = 1 << 32;
