//! The gateway: speaks for Things in the field. South: CoAP and LwM2M to Things. North: MQTT and
//! HTTP to the nodes of the ledger. It verifies before it forwards, and keeps on disk what it was
//! given until the ledger has it.

pub mod agent;
pub mod artifact;
pub mod coap;
pub mod config;
pub mod lwm2m;
pub mod north;
pub mod south;
pub mod spool;
pub mod verify;

pub use agent::{Gateway, GatewayError};
pub use config::{ConfigError, GatewayConfig, NodeAddress};

/// An error with its causes, joined by colons.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
