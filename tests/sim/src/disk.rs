//! A node's disk: a store in memory whose power can fail at a chosen write.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lamplighter_store::{
    Cf, Direction, Durability, KeyRange, Kv, KvView, MemoryKv, Op, Scan, StoreError, WriteBatch,
};
use lamplighter_types::{Certificate, codec};

use crate::raft_messages;
use crate::world::World;

/// The disk of one life of a node.
pub struct SimDisk {
    pub store: MemoryKv,
    pub world: Arc<World>,
    pub node: u64,
    pub life: u32,
}

impl SimDisk {
    fn check_batch(&self, batch: &WriteBatch) {
        if self.world.liars.is_liar(self.node) {
            return;
        }
        for op in batch.ops() {
            let Op::Put { cf, value, .. } = op else {
                continue;
            };
            match cf {
                Cf::Certificates => {
                    if let Ok(certificate) = codec::decode::<Certificate>(value) {
                        self.world.check_certificate(self.node, &certificate);
                    }
                }
                Cf::Log => {
                    if let Some((place, voters)) = raft_messages::voters(value) {
                        let explained = self.world.oracle().explains(self.node, place, &voters);
                        self.world.check(explained);
                        self.world.oracle().names(place, voters);
                    }
                }
                _ => {}
            }
        }
    }
}

impl KvView for SimDisk {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(cf, key)
    }

    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError> {
        self.store.scan(cf, range, direction)
    }
}

impl Kv for SimDisk {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        if self.world.power_fails(self.node, self.life) {
            return Err(StoreError::Closed);
        }
        self.check_batch(&batch);
        let written = self.store.write(batch, durability);
        if matches!(written, Err(StoreError::Injected)) {
            self.world.disk_failed(self.node, self.life);
        }
        written
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.write(WriteBatch::new(), Durability::Synced)
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
