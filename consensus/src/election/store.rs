//! The proofs of leaderships in the store.

use std::sync::Arc;

use lamplighter_store::{Cf, Durability, Kv, StoreError, WriteBatch};

use super::proof::ElectionProof;
use crate::blocking_io::BlockingIo;
use crate::codec;

/// The record of [`Cf::Meta`] with the proofs of the newest leaderships.
const PROOFS: &[u8] = b"raft/proofs";

/// Reads and writes the proofs.
pub(crate) struct ProofStore {
    kv: Arc<dyn Kv>,
    io: BlockingIo,
}

impl ProofStore {
    pub(crate) fn new(kv: Arc<dyn Kv>, io: BlockingIo) -> Self {
        Self { kv, io }
    }

    /// The stored proofs. A record that can't be read counts as none: leaders prove themselves
    /// again.
    pub(crate) async fn read(&self) -> Result<Vec<ElectionProof>, StoreError> {
        let kv = self.kv.clone();
        let stored = self.io.run(move || kv.get(Cf::Meta, PROOFS)).await?;
        let proofs = stored.and_then(|bytes| codec::decode("proofs of elections", &bytes).ok());
        Ok(proofs.unwrap_or_default())
    }

    /// Writes the proofs synced: they are there before an entry of the newest leadership is.
    pub(crate) async fn write(&self, proofs: &[ElectionProof]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Meta, PROOFS, codec::encode(&proofs));
        let kv = self.kv.clone();
        self.io
            .sync(move || kv.write(batch, Durability::Synced))
            .await
    }
}
