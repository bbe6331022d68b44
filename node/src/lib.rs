//! One node, validator or observer: its configuration and key, and the wiring of store, ledger,
//! consensus, network and edges. Nothing here decides anything; each part does that in its own
//! crate.

mod bridge;
pub mod config;
pub mod key;
mod run;
pub mod telemetry;

pub use config::{Config, ConfigError};
pub use key::KeyError;
pub use run::{Node, NodeError};
