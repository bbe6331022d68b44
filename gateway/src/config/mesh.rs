//! The limits of the transfers of a mesh.

use std::collections::BTreeMap;

use lamplighter_types::Id;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::south::{PacingConfig, SouthConfig};

/// The table `[mesh]`; the module above describes the keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeshLimits {
    pub q_block: bool,
    pub transfers_max: usize,
    pub battery_min_percent: u8,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parents: BTreeMap<Id, Id>,
}

impl Default for MeshLimits {
    fn default() -> MeshLimits {
        let south = SouthConfig::default();
        MeshLimits {
            q_block: south.session.q_block,
            transfers_max: south.pacing.transfers_max,
            battery_min_percent: south.session.battery_min_percent,
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
