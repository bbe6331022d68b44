//! One node, validator or observer: its configuration and key, and the wiring of store, ledger,
//! consensus, network and edges. Nothing here decides anything; each part does that in its own
//! crate.

pub mod audit;
mod bootstrap_peers;
pub mod config;
mod disk;
mod edges;
mod fatal_errors;
mod identity;
pub mod key;
mod ledger_peers;
mod liveness;
mod metrics;
mod peer_directory;
mod peer_service;
mod raft_transport;
pub mod restore;
mod run;
mod scrub;
mod store_identity;
pub mod telemetry;

pub use bootstrap_peers::{BootstrapPeers, BootstrapPeersError};
pub use config::{CertificateFiles, ConfigError, HttpConfig, HttpTls, NamedTls, NodeConfig};
pub use disk::{DiskConfig, DiskSpace};
pub use edges::certificate;
pub use identity::IdentityError;
pub use key::KeyError;
pub use lamplighter_ledger::{Handle, Phase};
pub use liveness::{Liveness, LivenessError};
pub use run::{Node, NodeError, PEER_PROTOCOL};
pub use store_identity::{StoreIdentityError, mark_path, require_data};
