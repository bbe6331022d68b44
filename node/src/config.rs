//! The configuration file of a node (TOML). Every key is described in `docs/configuration.md`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_types::Genesis;
use serde::{Deserialize, Serialize};

use crate::disk::DiskConfig;

/// How a node is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its id in the genesis file or in the governance transaction that added it.
    pub node: u64,
    /// The genesis file; relative paths are relative to the configuration file.
    pub genesis: PathBuf,
    /// The file with the secret key.
    pub key: PathBuf,
    /// Where the chain and the artifacts are kept.
    pub data_dir: PathBuf,
    /// Where other nodes connect.
    pub peer_listen: SocketAddr,
    /// Where the CMS and gateways reach the HTTP interface.
    pub http_listen: SocketAddr,
    /// `/healthz`, `/readyz` and `/metrics`; not for the public.
    pub admin_listen: SocketAddr,
    /// Where gateways connect by MQTT.
    pub mqtt_listen: SocketAddr,
    /// MQTT over TLS 1.3, and where; without it only the plain listener runs.
    #[serde(default)]
    pub mqtts_listen: Option<SocketAddr>,
    /// How long a client may take for TLS and the CONNECT of MQTT, in seconds.
    #[serde(default = "default_mqtt_connect_s")]
    pub mqtt_connect_s: u64,
    /// Whether reading over HTTP needs a token.
    #[serde(default = "yes")]
    pub read_needs_token: bool,
    /// An idle chain makes a block after so long.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// A block whose time is further off this node's clock is not attested.
    #[serde(default = "default_clock_offset_max_ms")]
    pub clock_offset_max_ms: u64,
    /// The disk: what stays free, how fast it is scrubbed.
    #[serde(default)]
    pub disk: DiskConfig,
}

fn yes() -> bool {
    true
}

fn default_mqtt_connect_s() -> u64 {
    30
}

fn default_heartbeat_ms() -> u64 {
    60_000
}

fn default_clock_offset_max_ms() -> u64 {
    30_000
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the configuration {} is not usable", path.display())]
    Malformed {
        path: PathBuf,
        source: toml::de::Error,
    },
    #[error("the genesis file {} is not usable", path.display())]
    Genesis {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("heartbeat_ms must be between 100 and 3,600,000")]
    Heartbeat,
    #[error("mqtt_connect_s must be between 1 and 300")]
    MqttConnect,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// Missing, malformed, with unknown keys or values out of range.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Malformed {
            path: path.to_owned(),
            source,
        })?;
        if !(100..=3_600_000).contains(&config.heartbeat_ms) {
            return Err(ConfigError::Heartbeat);
        }
        if !(1..=300).contains(&config.mqtt_connect_s) {
            return Err(ConfigError::MqttConnect);
        }
        let base = path.parent().unwrap_or(Path::new("."));
        for file in [&mut config.genesis, &mut config.key, &mut config.data_dir] {
            *file = base.join(&*file);
        }
        Ok(config)
    }

    /// Reads the genesis file.
    pub fn read_genesis(&self) -> Result<Genesis, ConfigError> {
        let path = &self.genesis;
        let bytes = fs::read(path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| ConfigError::Genesis {
            path: path.clone(),
            source,
        })
    }

    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }
}
