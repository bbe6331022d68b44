//! A node's disk: the store in memory, whose power can fail at a chosen write.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lamplighter_store::{
    Batch, Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Op, Scan, StoreError,
};
use lamplighter_types::{Certificate, codec};

use crate::wire;
use crate::world::World;

/// The disk of one life of a node.
pub struct Disk {
    pub store: MemoryKv,
    pub world: Arc<World>,
    pub node: u64,
    pub life: u32,
}

impl Disk {
    fn look_at(&self, batch: &Batch) {
        for op in batch.ops() {
            let Op::Put { cf, value, .. } = op else {
                continue;
            };
            match cf {
                Cf::Certificates => {
                    if let Ok(certificate) = codec::decode::<Certificate>(value) {
                        self.world.keeps_certificate(self.node, &certificate);
                    }
                }
                Cf::Log => {
                    if let Some((place, voters)) = wire::voters(value) {
                        self.world.truth().names(place, voters);
                    }
                }
                _ => {}
            }
        }
    }
}

impl KvView for Disk {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        self.store.scan(cf, range, direction)
    }
}

impl Kv for Disk {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        if self.world.power_fails(self.node, self.life) {
            return Err(StoreError::Closed);
        }
        self.look_at(&batch);
        let written = self.store.write(batch, durability);
        if matches!(written, Err(StoreError::Injected)) {
            self.world.disk_failed(self.node, self.life);
        }
        written
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.write(Batch::new(), Durability::Synced)
    }

    fn view(&self) -> Result<Arc<dyn KvView>, StoreError> {
        self.store.view()
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.store.checkpoint(dir)
    }

    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError> {
        self.store.read_checkpoint(dir)
    }
}
