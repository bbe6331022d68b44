use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_store::{Cf, Direction, Durability, KeyRange, Kv, KvView, StoreError, WriteBatch};

use crate::state_machine::{Committed, Fatal, Rejected, StateMachine};

const MARKER: &[u8] = b"marker";
const HASH: &[u8] = b"hash";

/// A state machine that keeps every batch under its log index in [`Cf::State`], and a hash over all
/// of them.
pub struct KvMachine {
    kv: Arc<dyn Kv>,
}

impl KvMachine {
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv }
    }

    /// All batches in order, with their log indexes.
    pub fn batches(&self) -> Result<Vec<(u64, Bytes)>, StoreError> {
        batches(&*self.kv)
    }

    /// The hash over all batches.
    pub fn hash(&self) -> Result<Bytes, StoreError> {
        Ok(self.kv.get(Cf::Chain, HASH)?.unwrap_or_default())
    }
}

fn batches(view: &dyn KvView) -> Result<Vec<(u64, Bytes)>, StoreError> {
    let scan = view.scan(Cf::State, KeyRange::all(), Direction::Forward)?;
    scan.map(|entry| {
        let (key, batch) = entry?;
        let mut index = [0; 8];
        index.copy_from_slice(&key);
        Ok((u64::from_be_bytes(index), batch))
    })
    .collect()
}

#[async_trait]
impl StateMachine for KvMachine {
    fn applied(&self) -> Result<Option<Vec<u8>>, Fatal> {
        let marker = self.kv.get(Cf::Chain, MARKER).map_err(Fatal::new)?;
        Ok(marker.map(|marker| marker.to_vec()))
    }

    /// Answers with the hash after each batch.
    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Fatal> {
        let mut hash = self.hash().map_err(Fatal::new)?;
        let mut write = WriteBatch::new();
        let mut responses = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(batch) = entry.batch {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&hash).update(&batch);
                hash = Bytes::copy_from_slice(hasher.finalize().as_bytes());
                write.put(Cf::State, entry.log_index.to_be_bytes().to_vec(), batch);
                responses.push(hash.clone());
            } else {
                responses.push(Bytes::new());
            }
            write.put(Cf::Chain, MARKER, entry.marker);
        }
        write.put(Cf::Chain, HASH, hash);
        self.kv
            .write(write, Durability::Unsynced)
            .map_err(Fatal::new)?;
        Ok(responses)
    }

    fn build_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Fatal> {
        self.kv.checkpoint(dir).map_err(Fatal::new)?;
        let image = self.kv.read_checkpoint(dir).map_err(Fatal::new)?;
        let marker = image.get(Cf::Chain, MARKER).map_err(Fatal::new)?;
        Ok(marker.map(|marker| marker.to_vec()))
    }

    /// An image of this machine needs no seal.
    async fn seal_snapshot(&self, _: &Path) -> Result<(), Fatal> {
        Ok(())
    }

    fn check_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Rejected> {
        let image = self.kv.read_checkpoint(dir).map_err(Rejected::new)?;
        let marker = image.get(Cf::Chain, MARKER).map_err(Rejected::new)?;
        Ok(marker.map(|marker| marker.to_vec()))
    }

    fn install_snapshot(&self, dir: &Path) -> Result<(), Fatal> {
        let image = self.kv.read_checkpoint(dir).map_err(Fatal::new)?;
        let mut write = WriteBatch::new();
        write.delete_range(Cf::State, KeyRange::all());
        for (index, batch) in batches(&*image).map_err(Fatal::new)? {
            write.put(Cf::State, index.to_be_bytes().to_vec(), batch);
        }
        for key in [MARKER, HASH] {
            match image.get(Cf::Chain, key).map_err(Fatal::new)? {
                Some(value) => write.put(Cf::Chain, key, value),
                None => write.delete(Cf::Chain, key),
            }
        }
        self.kv.write(write, Durability::Synced).map_err(Fatal::new)
    }
}
