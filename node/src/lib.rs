//! One node, validator or observer: its configuration and key, and the wiring of store, ledger,
//! consensus, network and edges. Nothing here decides anything; each part does that in its own
//! crate.

mod bridge;
pub mod config;
pub mod key;
mod origin;
mod run;
pub mod telemetry;

pub use config::{Config, ConfigError};
pub use key::KeyError;
pub use origin::{OriginError, mark_path};
pub use run::{Node, NodeError};
