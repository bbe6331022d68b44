//! Simulated Things. Each has a socket, a key and a directory with two firmware slots, speaks CoAP
//! and LwM2M to its gateway, and installs only images that its vendor signed.
//!
//! [`Machine`] holds the rules and the durable state; the task of a Thing ([`Thing::spawn`]) is a
//! loop of boots. A Thing that was killed continues from its directory.

mod casting;
mod checks;
mod config;
mod delivery;
mod disk;
mod ledger;
mod lifecycle;
mod machine;
mod mesh;
mod package;
mod secure;
mod service;
mod state;
#[cfg(test)]
mod tests;
mod update;

use std::path::PathBuf;

use lamplighter_node::key::KeyError;
use lamplighter_types::codec::CodecError;

pub use checks::{ManifestVerifier, ReleaseRefusal, SLOT_BYTES_MAX, VendorKeys};
pub use config::{Factory, SelfTest, Socket, ThingConfig};
pub use ledger::ORDER_REFUSED;
pub use lifecycle::{NewEvent, Thing};
pub use machine::{Boot, Machine, Status};
pub use mesh::ThingMesh;
pub use secure::Psk;
pub use state::Slot;

/// A simulated Thing failed.
#[derive(Debug, thiserror::Error)]
pub enum ThingError {
    /// Reading or writing its directory.
    #[error("{operation} {path}")]
    Disk {
        /// The operation: reading, writing, ...
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Its state file does not read.
    #[error("reading the state file {path}")]
    State {
        /// The file.
        path: PathBuf,
        /// The decoder's error.
        #[source]
        source: CodecError,
    },
    /// Binding its socket.
    #[error("binding the socket of a Thing")]
    Socket(#[source] std::io::Error),
    /// The limit of reports and events that wait for the gateway is reached.
    #[error("the outbox is full")]
    OutboxFull,
    /// A key is replaced when everything that it signed was answered.
    #[error("reports or events wait for an answer")]
    Unanswered,
    /// No key could be made.
    #[error("making a key")]
    Key(#[from] KeyError),
    /// The body of an event is too long.
    #[error("the data of an event exceed the limit")]
    EventTooLong,
    /// The Thing was killed, or its task failed.
    #[error("the Thing has ended")]
    Ended,
}
