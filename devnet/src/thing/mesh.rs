//! The Things of one gateway's mesh, in one process.

use std::collections::BTreeMap;

use lamplighter_types::Id;

use super::ThingError;
use super::config::ThingConfig;
use super::life::Thing;

/// Running Things by id.
#[derive(Debug, Default)]
pub struct ThingMesh {
    things: BTreeMap<Id, Thing>,
}

impl ThingMesh {
    /// Boots all of them.
    pub async fn spawn(configs: Vec<ThingConfig>) -> Result<ThingMesh, ThingError> {
        let mut mesh = ThingMesh::default();
        for config in configs {
            mesh.add(config).await?;
        }
        Ok(mesh)
    }

    /// Boots one more; one of the same id loses its power first.
    pub async fn add(&mut self, config: ThingConfig) -> Result<(), ThingError> {
        let device = config.device.clone();
        if let Some(old) = self.things.remove(&device) {
            old.kill().await;
        }
        self.things.insert(device, Thing::spawn(config).await?);
        Ok(())
    }

    /// One of them.
    pub fn get(&self, device: &Id) -> Option<&Thing> {
        self.things.get(device)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &Thing)> {
        self.things.iter()
    }

    /// Takes one out, running.
    pub fn remove(&mut self, device: &Id) -> Option<Thing> {
        self.things.remove(device)
    }

    /// Turns all of them off.
    pub async fn kill(self) {
        for (_, thing) in self.things {
            thing.kill().await;
        }
    }
}
