//! The configuration file of a node (TOML). Every key is described in `docs/configuration.md`.

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_api::{HttpSettings, MqttSettings, QuotaSettings, SettingsError};
use lamplighter_system::files;
use lamplighter_types::Genesis;
use serde::{Deserialize, Serialize};

use crate::disk::DiskConfig;

/// The configuration of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The id of this node in the genesis file or in the governance transaction that added it.
    pub node: u64,
    /// The genesis file; relative paths are relative to the configuration file.
    pub genesis: PathBuf,
    /// The file with the secret key.
    pub key: PathBuf,
    /// The directory of the chain and the artifacts.
    pub data_dir: PathBuf,
    /// The address for other nodes.
    pub peer_listen: SocketAddr,
    /// The address of the HTTP interface for the CMS and gateways.
    pub http_listen: SocketAddr,
    /// How the HTTP interface is encrypted.
    #[serde(default)]
    pub http: HttpConfig,
    /// The address of `/healthz`, `/readyz` and `/metrics`; not for the public.
    pub admin_listen: SocketAddr,
    /// The address of MQTT for gateways.
    pub mqtt_listen: SocketAddr,
    /// The address of MQTT over TLS 1.3; without it only the plain listener runs.
    #[serde(default)]
    pub mqtts_listen: Option<SocketAddr>,
    /// Seconds that a client may take for TLS and the CONNECT of MQTT.
    #[serde(default = "default_mqtt_connect_s")]
    pub mqtt_connect_s: u64,
    /// Reading over HTTP needs a token.
    #[serde(default = "yes")]
    pub read_needs_token: bool,
    /// The time after which an idle chain makes a block.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// The largest difference between the time of a block and this node's clock at which this node
    /// attests the block.
    #[serde(default = "default_clock_offset_max_ms")]
    pub clock_offset_max_ms: u64,
    /// The limits of the disk.
    #[serde(default)]
    pub disk: DiskConfig,
    /// The quotas of each account.
    #[serde(default)]
    pub quotas: QuotaSettings,
    /// The times of MQTT.
    #[serde(default)]
    pub mqtt: MqttSettings,
}

/// How the HTTP interface is encrypted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    pub tls: HttpTls,
    /// More DNS names and addresses in the node's certificate, for clients that compare them.
    pub names: Vec<String>,
    /// Seconds that a client may take for the TLS handshake.
    pub handshake_s: u64,
    /// Lets `tls = "off"` stand with an address that other machines reach.
    pub plain_text_beyond_loopback: bool,
    #[serde(flatten)]
    pub settings: HttpSettings,
}

/// The certificate of the HTTP interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "tls is \"ledger\", \"off\" or { certificate = \"..\", key = \"..\" }"
)]
pub enum HttpTls {
    Named(NamedTls),
    Files(CertificateFiles),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedTls {
    /// The certificate of the node's ledger key.
    Ledger,
    /// Plain HTTP.
    Off,
}

/// A certificate chain and its key (PEM) beside that of the ledger key; read again when they
/// change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            tls: HttpTls::Named(NamedTls::Ledger),
            names: Vec::new(),
            handshake_s: 30,
            plain_text_beyond_loopback: false,
            settings: HttpSettings::default(),
        }
    }
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

/// The reason why a configuration can't be used.
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
    #[error("a setting is not usable")]
    Edge(#[from] SettingsError),
    #[error("http.handshake_s must be between 1 and 300")]
    Handshake,
    #[error(
        "http.tls is \"off\" and {0} is not a loopback address: tokens and transactions would be \
         readable on the network. If a proxy or a tunnel encrypts them, say so with \
         http.plain_text_beyond_loopback = true"
    )]
    PlainHttp(SocketAddr),
}

impl NodeConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// Missing, malformed, with unknown keys or values out of range.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = files::read_text(path).map_err(|source| ConfigError::Read {
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
        config.http.settings.check()?;
        config.quotas.check()?;
        config.mqtt.check()?;
        config.check_http()?;
        let base = path.parent().unwrap_or(Path::new("."));
        for file in [&mut config.genesis, &mut config.key, &mut config.data_dir] {
            *file = base.join(&*file);
        }
        if let HttpTls::Files(CertificateFiles { certificate, key }) = &mut config.http.tls {
            *certificate = base.join(&*certificate);
            *key = base.join(&*key);
        }
        Ok(config)
    }

    fn check_http(&self) -> Result<(), ConfigError> {
        let http = &self.http;
        if !(1..=300).contains(&http.handshake_s) {
            return Err(ConfigError::Handshake);
        }
        let plain = matches!(http.tls, HttpTls::Named(NamedTls::Off));
        let allowed = self.http_listen.ip().is_loopback() || http.plain_text_beyond_loopback;
        if plain && !allowed {
            return Err(ConfigError::PlainHttp(self.http_listen));
        }
        Ok(())
    }

    /// The base address of the HTTP interface, with the port of the configuration.
    pub fn url(&self) -> String {
        let scheme = match self.http.tls {
            HttpTls::Named(NamedTls::Off) => "http",
            HttpTls::Named(NamedTls::Ledger) | HttpTls::Files(_) => "https",
        };
        format!("{scheme}://{}", self.http_listen)
    }

    /// Reads the genesis file.
    pub fn read_genesis(&self) -> Result<Genesis, ConfigError> {
        let path = &self.genesis;
        let text = files::read_text(path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        serde_json::from_str(&text).map_err(|source| ConfigError::Genesis {
            path: path.clone(),
            source,
        })
    }

    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }
}
