//! Simulated Things: each has its own socket, key and directory with two firmware slots, speaks
//! CoAP and LwM2M to its gateway, and installs nothing that its vendor did not sign.
//!
//! [`Machine`] keeps the rules and everything durable; the life of a Thing ([`Thing::spawn`]) is a
//! loop in which each turn is one boot. A Thing that is killed goes on from its directory.

mod checks;
mod config;
mod delivery;
mod disk;
mod life;
mod machine;
mod mesh;
mod package;
mod service;
mod state;
#[cfg(test)]
mod tests;
mod update;

use std::path::PathBuf;

use lamplighter_types::codec::CodecError;

pub use checks::{ManifestVerifier, Refusal, SLOT_BYTES_MAX, VendorKeys};
pub use config::{Factory, SelfTest, Socket, ThingConfig};
pub use life::{NewEvent, Thing};
pub use machine::{Boot, Machine, Status};
pub use mesh::ThingMesh;
pub use state::Slot;

/// Why a simulated Thing cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ThingError {
    /// Reading or writing its directory.
    #[error("{doing} {path}")]
    Disk {
        /// Reading, writing, ...
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Its state file does not read.
    #[error("reading the state file {path}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// Binding its socket.
    #[error("binding the socket of a Thing")]
    Socket(#[source] std::io::Error),
    /// Too many reports and events wait for the gateway.
    #[error("the outbox is full")]
    OutboxFull,
    /// The body of an event is too long.
    #[error("the data of an event exceed the limit")]
    EventTooLong,
    /// The Thing was killed, or its task failed.
    #[error("the Thing has ended")]
    Ended,
}
