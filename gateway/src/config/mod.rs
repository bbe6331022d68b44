//! The configuration file of a gateway (TOML).
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `account` | the gateway's account on the ledger | |
//! | `genesis` | the genesis file, the trust root; relative paths are relative to this file | |
//! | `key` | file with the account's secret key, 64 hexadecimal digits, mode 600 | |
//! | `data_dir` | directory of the spool, the artifacts and the known devices | |
//! | `south_listen` | UDP address for CoAP | |
//! | `south_http_listen` | TCP address at which Things that fetch packages over HTTP do so | none |
//! | `[[nodes]]` `http` | base address of a node, e.g. `https://10.0.0.1:8080` | |
//! | `[[nodes]]` `mqtt` | `host:port` of its MQTT listener | |
//! | `[[nodes]]` `tls` | TLS 1.3 with the account's key in place of a token | false |
//! | `[[nodes]]` `key` | the node's public key, for a node that is no validator | |
//! | `plain_http_beyond_loopback` | `http://` may lead to other machines, where a tunnel encrypts | false |
//! | `mqtt_connect_s` | time that a node may take for TCP, TLS and MQTT to connect | 30 |
//! | `spool_bytes_max` | reports and events that wait for the ledger; Things wait when it is full | 64 MiB |
//! | `cache_bytes_max` | artifacts | 1 GiB |
//! | `record_age_max_s` | a proven record whose block is older is refused | 300 |
//! | `rate_bytes_per_s` | limit of all transfers of the mesh together, on air, with headers | 12,000 |
//! | `install_timeout_s` | time that a Thing may take to check or install a package | 3,600 |
//! | `poll_s` | time between two reads of the state of a Thing without our agent | 5 |
//! | `szx` | blocks begin with 2^(4 + `szx`) bytes, 0 to 6; a Thing may ask for smaller ones | 6 |
//! | `plain_coap` | who may register without DTLS: `everybody`, `without_credentials`, `never` | `everybody` |
//! | `[dtls]` `listen` | UDP address for CoAP over DTLS | no DTLS |
//! | `[dtls]` `uri` | the URI of this listener that Things get by a bootstrap | its address |
//! | `[oscore]` `credentials` | the same file as that of `[dtls]`; OSCORE is spoken at `south_listen` | no OSCORE |
//! | `[oscore]` `uri` | the URI of `south_listen` that Things get by a bootstrap | its address |
//! | `[dtls]` `credentials` | file with the keys of Things, mode 600 (module [`crate::dtls`]) | |
//! | `[mesh]` `q_block` | Things are asked whether they take blocks in sets (RFC 9177) | true |
//! | `[mesh]` `transfers_max` | transfers under way at once | 16 |
//! | `[mesh]` `battery_min_percent` | a Thing whose battery has less gets no package; 0: it is not asked | 0 |
//! | `[mesh.casts]` `address` | an image is sent once to several Things at this multicast address and port | no casts |
//! | `[mesh.casts]` `interface` | the network interface, for an IPv6 address; an IPv4 address is sent to at that of `south_listen` | |
//! | `[mesh.casts]` `rate_bytes_per_s` | limit of a cast, on air, with headers | 4,000 |
//! | `[mesh.casts]` `gather_s` | time for other Things to join after the first one | 30 |
//! | `[mesh.parents]` | the router through which a device reaches the gateway, `"device" = "router"`; never both at once get a package | |
//! | `[endpoints]` | endpoint names of devices that the rules for names do not find, `"name" = "device"` | |

mod mesh;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_system::files;
use lamplighter_types::{Genesis, GenesisError, Id, PublicKey, SecretKey};
use serde::{Deserialize, Serialize};

use crate::coap::block::SZX_MAX;
use crate::south::SouthConfig;

pub use mesh::{CastConfig, MeshLimits};

/// The configuration of a gateway; the module describes the keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    pub account: Id,
    pub genesis: PathBuf,
    pub key: PathBuf,
    pub data_dir: PathBuf,
    pub south_listen: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub south_http_listen: Option<SocketAddr>,
    #[serde(default = "mqtt_connect_s")]
    pub mqtt_connect_s: u64,
    #[serde(default = "spool_bytes_max")]
    pub spool_bytes_max: u64,
    #[serde(default = "cache_bytes_max")]
    pub cache_bytes_max: u64,
    #[serde(default = "record_age_max_s")]
    pub record_age_max_s: u64,
    #[serde(default = "rate_bytes_per_s")]
    pub rate_bytes_per_s: u32,
    #[serde(default = "install_timeout_s")]
    pub install_timeout_s: u64,
    #[serde(default = "poll_s")]
    pub poll_s: u64,
    #[serde(default = "szx")]
    pub szx: u8,
    #[serde(default)]
    pub plain_http_beyond_loopback: bool,
    #[serde(default)]
    pub plain_coap: PlainCoap,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtls: Option<DtlsConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oscore: Option<OscoreConfig>,
    #[serde(default)]
    pub mesh: MeshLimits,
    pub nodes: Vec<NodeAddress>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, Id>,
}

/// The devices that may register without DTLS and OSCORE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainCoap {
    /// All devices; one that has registered with its key is not displaced.
    #[default]
    Everybody,
    /// The devices without a key in the file of credentials.
    WithoutCredentials,
    /// No device: without OSCORE `south_listen` is not listened on.
    Never,
}

/// CoAP over DTLS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DtlsConfig {
    pub listen: SocketAddr,
    pub credentials: PathBuf,
    /// Where Things are told to register, if it is not the address that is listened on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// CoAP with OSCORE, at the same address as plain CoAP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OscoreConfig {
    pub credentials: PathBuf,
    /// Where Things are told to register, if it is not the address that is listened on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// One node of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeAddress {
    pub http: String,
    pub mqtt: String,
    #[serde(default)]
    pub tls: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
}

fn mqtt_connect_s() -> u64 {
    30
}

fn spool_bytes_max() -> u64 {
    64 * 1024 * 1024
}

fn cache_bytes_max() -> u64 {
    1024 * 1024 * 1024
}

fn record_age_max_s() -> u64 {
    300
}

fn rate_bytes_per_s() -> u32 {
    SouthConfig::default().rate_bytes_per_s
}

fn install_timeout_s() -> u64 {
    3_600
}

fn poll_s() -> u64 {
    5
}

fn szx() -> u8 {
    SZX_MAX
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
    #[error("the genesis file {} contradicts itself", path.display())]
    GenesisContent { path: PathBuf, source: GenesisError },
    #[error("the key file {} is not 64 hexadecimal digits", path.display())]
    Key { path: PathBuf },
    #[error("the key file {} can be read by others (mode {mode:o}); set it to 600", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("nodes: one at least, each `mqtt` of the form host:port")]
    Nodes,
    #[error("{0} must not be 0")]
    Zero(&'static str),
    #[error("szx is at most {SZX_MAX}")]
    BlockSize,
    #[error("plain_coap: without [dtls] and [oscore] it is `everybody`")]
    PlainCoap,
    #[error("[dtls] and [oscore] have one file of credentials")]
    Credentials,
    #[error("mesh.battery_min_percent is at most 100")]
    Battery,
    #[error("mesh.casts: {0} can't be used (docs/configuration.md has the rules)")]
    Cast(&'static str),
    #[error("mesh.parents: the way from {0} to the gateway is a circle")]
    Circle(String),
    #[error("endpoints: {0} is there twice but for the case of its letters")]
    Endpoint(String),
}

impl GatewayConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file is missing or malformed, or has unknown keys or values out of range.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self =
            toml::from_str(&read(path)?).map_err(|source| ConfigError::Malformed {
                path: path.to_owned(),
                source,
            })?;
        let base = path.parent().unwrap_or(Path::new("."));
        for file in [&mut config.genesis, &mut config.key, &mut config.data_dir] {
            *file = base.join(&*file);
        }
        if let Some(dtls) = &mut config.dtls {
            dtls.credentials = base.join(&dtls.credentials);
        }
        if let Some(oscore) = &mut config.oscore {
            oscore.credentials = base.join(&oscore.credentials);
        }
        config.check()?;
        Ok(config)
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first value that can't be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.nodes.is_empty() || self.nodes.iter().any(|node| node.host_port().is_none()) {
            return Err(ConfigError::Nodes);
        }
        let numbers = [
            ("mqtt_connect_s", self.mqtt_connect_s),
            ("spool_bytes_max", self.spool_bytes_max),
            ("cache_bytes_max", self.cache_bytes_max),
            ("record_age_max_s", self.record_age_max_s),
            ("install_timeout_s", self.install_timeout_s),
            ("poll_s", self.poll_s),
        ];
        if let Some((name, _)) = numbers.into_iter().find(|(_, number)| *number == 0) {
            return Err(ConfigError::Zero(name));
        }
        if self.szx > SZX_MAX {
            return Err(ConfigError::BlockSize);
        }
        if self.credentials().is_none() && self.plain_coap != PlainCoap::Everybody {
            return Err(ConfigError::PlainCoap);
        }
        let files = self.dtls.as_ref().zip(self.oscore.as_ref());
        if files.is_some_and(|(dtls, oscore)| dtls.credentials != oscore.credentials) {
            return Err(ConfigError::Credentials);
        }
        self.mesh.check()?;
        let mut names = BTreeSet::new();
        let is_duplicate = |name: &&String| !names.insert(name.to_ascii_lowercase());
        match self.endpoints.keys().find(is_duplicate) {
            Some(name) => Err(ConfigError::Endpoint(name.clone())),
            None => Ok(()),
        }
    }

    /// The file with the keys of Things, if there is one.
    pub(crate) fn credentials(&self) -> Option<&Path> {
        let dtls = self.dtls.as_ref().map(|dtls| &dtls.credentials);
        let oscore = self.oscore.as_ref().map(|oscore| &oscore.credentials);
        Some(dtls.or(oscore)?)
    }

    /// Reads and checks the genesis file.
    pub fn read_genesis(&self) -> Result<Genesis, ConfigError> {
        let path = &self.genesis;
        let genesis: Genesis =
            serde_json::from_str(&read(path)?).map_err(|source| ConfigError::Genesis {
                path: path.clone(),
                source,
            })?;
        match genesis.check() {
            Ok(()) => Ok(genesis),
            Err(source) => Err(ConfigError::GenesisContent {
                path: path.clone(),
                source,
            }),
        }
    }

    /// Reads the secret key; refuses a file that others can read.
    pub fn read_key(&self) -> Result<SecretKey, ConfigError> {
        let path = &self.key;
        let metadata = fs::metadata(path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ConfigError::Exposed {
                path: path.clone(),
                mode,
            });
        }
        let mut seed = [0; 32];
        hex::decode_to_slice(read(path)?.trim(), &mut seed)
            .map_err(|_| ConfigError::Key { path: path.clone() })?;
        Ok(SecretKey::from_seed(seed))
    }

    pub(crate) fn south(&self) -> SouthConfig {
        let mut south = SouthConfig {
            rate_bytes_per_s: self.rate_bytes_per_s,
            http_listen: self.south_http_listen,
            ..SouthConfig::default()
        };
        south.session.install_timeout = Duration::from_secs(self.install_timeout_s);
        south.session.order_age_max = Duration::from_secs(self.record_age_max_s);
        south.session.poll = Duration::from_secs(self.poll_s);
        (south.session.szx, south.coap.szx) = (self.szx, self.szx);
        self.mesh.apply(&mut south);
        south
    }
}

impl NodeAddress {
    /// The base address of the HTTP interface, with the key that the node must show.
    pub(crate) fn http_address(&self) -> String {
        match self.key {
            Some(key) => format!("{}#{key}", self.http),
            None => self.http.clone(),
        }
    }

    /// Host and port of the MQTT listener.
    pub(crate) fn host_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.mqtt.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then_some((host, port.parse().ok()?))
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    files::read_text(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}
