//! The limits of the transfers of a mesh.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_types::Id;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::cast;
use crate::south::{CastSettings, CastSocket, PacingConfig, SouthConfig};

/// The table `[mesh]`; the module above describes the keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeshLimits {
    pub q_block: bool,
    pub transfers_max: usize,
    pub battery_min_percent: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub casts: Option<CastConfig>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parents: BTreeMap<Id, Id>,
}

/// The table `[mesh.casts]`: one image for several Things at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CastConfig {
    pub address: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    #[serde(default = "cast_rate_bytes_per_s")]
    pub rate_bytes_per_s: u32,
    #[serde(default = "gather_s")]
    pub gather_s: u64,
}

/// A third of the rate of all transfers: each router of a mesh repeats what is sent to several.
fn cast_rate_bytes_per_s() -> u32 {
    SouthConfig::default().rate_bytes_per_s / 3
}

/// Time for the offers to 50 Things, with proofs, at the rate of all transfers.
fn gather_s() -> u64 {
    30
}

/// Longest time for others to join: the Things whose orders came first wait for it.
const GATHER_S_MAX: u64 = 3_600;

impl CastConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let name = self.interface.as_deref();
        // It becomes a part of a path.
        let is_name = name.is_none_or(|name| !name.contains(['/', '.']) && !name.is_empty());
        if !self.address.ip().is_multicast() || self.address.port() == 0 || !is_name {
            return Err(ConfigError::Cast("address"));
        }
        if self.address.is_ipv6() != self.interface.is_some() {
            return Err(ConfigError::Cast("interface"));
        }
        if self.rate_bytes_per_s == 0 || self.gather_s > GATHER_S_MAX {
            return Err(ConfigError::Cast("rate_bytes_per_s or gather_s"));
        }
        Ok(())
    }

    /// Opens the socket that sends. It is that of the interface, or of the address at which Things
    /// register.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn open(&self, south_listen: SocketAddr) -> io::Result<CastSettings> {
        let mut address = self.address;
        let local = match (&mut address, &self.interface) {
            (SocketAddr::V6(group), Some(name)) => {
                let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))?;
                let index = index.trim().parse().map_err(io::Error::other)?;
                group.set_scope_id(index);
                SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, index).into()
            }
            (SocketAddr::V4(_), None) if south_listen.is_ipv4() => south_listen,
            _ => return Err(io::Error::other("south_listen is no IPv4 address")),
        };
        let socket = cast::sending_socket(local)?;
        Ok(CastSettings {
            address,
            rate_bytes_per_s: self.rate_bytes_per_s,
            gather: Duration::from_secs(self.gather_s),
            socket: CastSocket(Arc::new(socket)),
        })
    }
}

impl Default for MeshLimits {
    fn default() -> MeshLimits {
        let south = SouthConfig::default();
        MeshLimits {
            q_block: south.session.q_block,
            transfers_max: south.pacing.transfers_max,
            battery_min_percent: south.session.battery_min_percent,
            casts: None,
            parents: BTreeMap::new(),
        }
    }
}

impl MeshLimits {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.transfers_max == 0 {
            return Err(ConfigError::Zero("mesh.transfers_max"));
        }
        if self.battery_min_percent > 100 {
            return Err(ConfigError::Battery);
        }
        if let Some(casts) = &self.casts {
            casts.check()?;
        }
        match self.parents.keys().find(|device| self.is_circle(device)) {
            Some(device) => Err(ConfigError::Circle(device.to_string())),
            None => Ok(()),
        }
    }

    /// True if the way from a device to the gateway comes back to it.
    fn is_circle(&self, device: &Id) -> bool {
        let mut hop = device;
        for _ in 0..=self.parents.len() {
            match self.parents.get(hop) {
                Some(parent) if parent == device => return true,
                Some(parent) => hop = parent,
                None => return false,
            }
        }
        // It leads into a circle that it is no part of.
        true
    }

    pub(super) fn apply(&self, south: &mut SouthConfig) {
        south.session.q_block = self.q_block;
        south.session.battery_min_percent = self.battery_min_percent;
        let names = |(device, parent): (&Id, &Id)| (device.to_string(), parent.to_string());
        south.pacing = PacingConfig {
            transfers_max: self.transfers_max,
            parents: self.parents.iter().map(names).collect(),
        };
    }
}
