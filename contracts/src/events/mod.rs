//! Events and alarms of devices.
//!
//! | action | who | refused |
//! |---|---|---|
//! | append | the devices' gateway, all of them active | used sequence number, wrong signature, none though the device has a key, unknown kind |
//! | acknowledge, with a comment | operator of the device's district | no open alarm, acknowledged already |
//! | clear by hand, with a comment | operator of the device's district | no open alarm, cleared already |
//!
//! Each event of an append is recorded or refused on its own, and a notification names those that
//! are refused; an append of one event fails with it. Events are not state: they are leaves of the
//! event root of their block. The state has, for each device, the sequence numbers that have come,
//! and its alarms.
//!
//! *Sequence numbers* count up from 1 per device. A number that is left out opens a *gap*; an
//! event that comes late closes it. At most
//! [`EVENT_GAPS_MAX`](lamplighter_types::limits::EVENT_GAPS_MAX) gaps are kept: then the two
//! oldest become one, which spans used numbers as well and accepts no late events any more. It is
//! recognised by its size: gaps and events together are then more than the highest number.
//!
//! *Signatures*: a device with a key signs all its events, and they are attested; its gateway can't
//! send any in its name. The gateway vouches for a device without a key. A gateway that has events
//! itself, for instance that a Thing is silent, has a device of its own for them.
//!
//! *Alarms*: a device has at most one active alarm of each kind, named by the event that raised it.
//! Raising it again changes at most its severity. An event that comes after a higher one of its
//! kind has raised or cleared changes no alarm. An alarm stays open until it is both cleared and
//! acknowledged; then it leaves the state, and the history has it. The time of an event is that of
//! the Thing and is not checked; the times of alarms are those of blocks.
//!
//! At most [`ALARMS_PER_DEVICE_MAX`](lamplighter_types::limits::ALARMS_PER_DEVICE_MAX) alarms of a
//! device are open. Beyond that the oldest one that was cleared and not acknowledged leaves the
//! state; if all are active, no alarm is raised. Each time a notification says so, and the event is
//! recorded in any case. Of each kind the last change is kept, of at most
//! [`ALARM_KINDS_PER_DEVICE_MAX`](lamplighter_types::limits::ALARM_KINDS_PER_DEVICE_MAX) kinds: if
//! that of a kind without an active alarm had to make room, a late event may raise its alarm again.

mod alarms;
mod cursor;
mod error;
mod execute;
pub mod keys;
mod kinds;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use alarms::renumber;
pub use error::EventsError;
pub use execute::{check, execute};
pub use kinds::{FREE_PREFIX, KINDS, is_kind};
pub use read::*;

/// Largest jump of the sequence numbers of a device whose key signs them: one mistake must not use
/// them all up. For a device without a key it is
/// [`VOUCHED_JUMP_MAX`](crate::devices::VOUCHED_JUMP_MAX).
pub const SEQUENCE_JUMP_MAX: u64 = 1 << 32;
