//! The Things of one gateway's mesh, in one process.

use std::collections::BTreeMap;

use lamplighter_types::Id;

use super::ThingError;
use super::config::ThingConfig;
use super::lifecycle::Thing;

/// Running Things by id.
#[derive(Debug, Default)]
pub struct ThingMesh {
    things: BTreeMap<Id, Thing>,
}

impl ThingMesh {
    /// Boots all Things.
    pub async fn spawn(configs: Vec<ThingConfig>) -> Result<ThingMesh, ThingError> {
        let mut mesh = ThingMesh::default();
        for config in configs {
            mesh.add(config).await?;
        }
        Ok(mesh)
    }

    /// Boots one more Thing; a running one of the same id loses its power first.
    pub async fn add(&mut self, config: ThingConfig) -> Result<(), ThingError> {
        let device = config.device.clone();
        if let Some(old) = self.things.remove(&device) {
            old.kill().await;
        }
        self.things.insert(device, Thing::spawn(config).await?);
        Ok(())
    }

    /// The Thing with this id.
    pub fn get(&self, device: &Id) -> Option<&Thing> {
        self.things.get(device)
    }

    /// All Things, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &Thing)> {
        self.things.iter()
    }

    /// Removes a Thing, which keeps running.
    pub fn remove(&mut self, device: &Id) -> Option<Thing> {
        self.things.remove(device)
    }

    /// Cuts the power of all Things.
    pub async fn kill(self) {
        for (_, thing) in self.things {
            thing.kill().await;
        }
    }
}
