//! Gateways with keys of Things in their file.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lamplighter_gateway::{DtlsConfig, PlainCoap};

use crate::city::{City, Running, free_address};

/// Writes the file of keys, which nobody else may read.
pub fn write_keys(city: &City, entries: &[String]) -> PathBuf {
    let path = city.dir.path().join("things.toml");
    std::fs::write(&path, entries.concat()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// An entry for DTLS, with more lines.
pub fn psk(identity: &str, key: &[u8], device: &str, more: &str) -> String {
    let key = hex::encode(key);
    format!("[[psk]]\nidentity = \"{identity}\"\nkey = \"{key}\"\ndevice = \"{device}\"\n{more}\n")
}

/// A gateway where devices with keys register over DTLS alone.
pub struct SecureGateway {
    pub running: Running,
    /// Where it speaks plain CoAP.
    pub plain: SocketAddr,
    pub secure: SocketAddr,
}

impl SecureGateway {
    pub async fn start(city: &City, entries: &[String]) -> SecureGateway {
        let mut config = city.gateway_config(false);
        config.dtls = Some(DtlsConfig {
            listen: free_address(),
            credentials: write_keys(city, entries),
            uri: None,
        });
        config.plain_coap = PlainCoap::WithoutCredentials;
        let running = city.gateway_at(config).await;
        SecureGateway {
            plain: running.gateway.south_address(),
            secure: running.gateway.secure_address().unwrap(),
            running,
        }
    }
}
