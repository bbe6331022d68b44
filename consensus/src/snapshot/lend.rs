//! The image that others may read, see `fetch`. Changes nothing on this node.

use std::sync::{Arc, Mutex};

use tokio::time::timeout;

use super::send::read_at;
use super::{SnapshotDir, SnapshotError};
use crate::codec::{Manifest, SnapshotResponse};
use crate::node::Inner;

/// The image that was described last is kept while it is read, though a newer one was made.
#[derive(Default)]
pub(crate) struct Lent(Mutex<Option<Loan>>);

#[derive(Clone)]
struct Loan {
    hash: [u8; 32],
    manifest: Arc<Manifest>,
    image: Arc<SnapshotDir>,
}

impl Lent {
    fn get(&self) -> Option<Loan> {
        self.0.lock().expect("nobody panics with the lock").clone()
    }

    fn set(&self, loan: Loan) {
        *self.0.lock().expect("nobody panics with the lock") = Some(loan);
    }
}

impl Inner {
    /// The current image, if it reaches so far in the log; else one is asked for.
    pub(crate) async fn describe_image(
        &self,
        at_least: u64,
    ) -> Result<SnapshotResponse, SnapshotError> {
        let current = self.snapshots.current();
        let reaches = |meta: &crate::raft::SnapshotMeta| {
            meta.last_log_id.is_some_and(|last| last.index >= at_least)
        };
        let Some((meta, image)) = current.filter(|(meta, _)| reaches(meta)) else {
            // What this node has not applied no image of it has: asking for that costs nothing.
            let applied = self.raft.metrics().borrow().last_applied;
            if applied.is_none_or(|last| last.index < at_least) {
                return Ok(SnapshotResponse::NoImage);
            }
            // It is made meanwhile; if consensus has stopped there will be none.
            if let Err(error) = self.raft.trigger().snapshot().await {
                tracing::debug!(%error, "no image is made");
            }
            return Ok(SnapshotResponse::NoImage);
        };
        let data = image.data();
        let sealed = self.machine.seal_snapshot(&data);
        match timeout(self.config.timers.heartbeat, sealed).await {
            Ok(sealed) => sealed?,
            Err(_) => return Ok(SnapshotResponse::NoImage),
        }
        let dir = image.clone();
        let manifest = self.io.run(move || dir.manifest(&meta)).await?;
        let answer = Manifest::clone(&manifest);
        self.lent.set(Loan {
            hash: manifest.hash(),
            manifest,
            image,
        });
        Ok(SnapshotResponse::Image { manifest: answer })
    }

    /// A piece of a file of the image that was described last.
    pub(crate) async fn read_image(
        &self,
        hash: [u8; 32],
        file: u32,
        offset: u64,
    ) -> Result<SnapshotResponse, SnapshotError> {
        let Some(loan) = self.lent.get().filter(|loan| loan.hash == hash) else {
            return Ok(SnapshotResponse::NoImage);
        };
        let info = loan.manifest.files.get(file as usize);
        let left = info.and_then(|info| info.bytes.checked_sub(offset));
        let (Some(info), Some(left @ 1..)) = (info, left) else {
            return Ok(SnapshotResponse::NoImage);
        };
        let most = self.config.limits.snapshot_chunk_bytes;
        let len = left.min(self.pace.piece_bytes(most) as u64) as usize;
        self.pace.wait(len).await;
        let path = loan.image.data().join(&info.name);
        let bytes = self.io.run(move || read_at(&path, offset, len)).await?;
        Ok(SnapshotResponse::Piece { bytes })
    }
}
