//! One node, validator or observer: its configuration and key, and the wiring of store, ledger,
//! consensus, network and edges. Nothing here decides anything; each part does that in its own
//! crate.

mod bridge;
pub mod config;
mod disk;
mod edges;
mod failure;
mod identity;
pub mod key;
mod metrics;
mod origin;
mod peers;
mod run;
mod scrub;
pub mod telemetry;

pub use config::{Config, ConfigError};
pub use disk::DiskConfig;
pub use identity::IdentityError;
pub use key::KeyError;
pub use lamplighter_ledger::{Handle, Phase};
pub use origin::{OriginError, mark_path};
pub use peers::{FirstPeers, PeersError};
pub use run::{Node, NodeError};

/// An error with its causes, joined by colons, without saying anything twice.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
