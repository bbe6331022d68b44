//! The gateway: speaks for Things in the field. South: CoAP and LwM2M to Things. North: MQTT and
//! HTTP to the nodes of the ledger. It verifies before it forwards, and keeps reports of Things on
//! disk until the ledger has them.

pub mod artifact;
pub mod cast;
pub mod coap;
pub mod config;
pub mod credentials;
pub mod deployments;
pub mod dtls;
pub mod lwm2m;
pub mod north;
pub mod oscore;
pub mod runtime;
pub mod south;
pub mod spool;
pub mod submission;
mod text;
pub mod verify;
pub mod windows;

pub use config::{
    CastConfig, ConfigError, DtlsConfig, GatewayConfig, MeshLimits, NodeAddress, OscoreConfig,
    PlainCoap,
};
pub use runtime::{Gateway, GatewayError};
