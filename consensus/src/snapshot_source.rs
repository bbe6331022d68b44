//! Serves this node's snapshot to a node that lost its state (see `snapshot::fetch`). Serving
//! changes nothing on this node.

use std::sync::{Arc, Mutex};

use tokio::time::timeout;

use crate::blocking_io::BlockingIo;
use crate::config::ConsensusConfig;
use crate::snapshot::message::{Manifest, SnapshotResponse};
use crate::snapshot::{SnapshotDir, SnapshotError, SnapshotStore, SnapshotThrottle, read_at};
use crate::state_machine::StateMachine;
use crate::type_config::Raft;

/// Describes the current snapshot, and reads its files for others.
pub(crate) struct SnapshotSource {
    pub raft: Raft,
    pub config: Arc<ConsensusConfig>,
    pub machine: Arc<dyn StateMachine>,
    pub snapshots: Arc<SnapshotStore>,
    pub throttle: Arc<SnapshotThrottle>,
    pub lease: SnapshotLease,
}

/// Keeps the snapshot that was described last while it is read, even when a newer one was made.
#[derive(Default)]
pub(crate) struct SnapshotLease(Mutex<Option<LeasedSnapshot>>);

#[derive(Clone)]
struct LeasedSnapshot {
    hash: [u8; 32],
    manifest: Arc<Manifest>,
    dir: Arc<SnapshotDir>,
}

impl SnapshotLease {
    fn get(&self, hash: [u8; 32]) -> Option<LeasedSnapshot> {
        let leased = self.0.lock().expect("no code panics with this lock");
        leased.clone().filter(|leased| leased.hash == hash)
    }

    fn set(&self, leased: LeasedSnapshot) {
        *self.0.lock().expect("no code panics with this lock") = Some(leased);
    }
}

impl SnapshotSource {
    /// The manifest of the current snapshot if that one reaches `at_least` in the log; otherwise
    /// one is requested from the state machine.
    pub(crate) async fn describe(&self, at_least: u64) -> Result<SnapshotResponse, SnapshotError> {
        let current = self.snapshots.current();
        let reaches = |meta: &crate::types::SnapshotMeta| {
            meta.last_log_id.is_some_and(|last| last.index >= at_least)
        };
        let Some((meta, dir)) = current.filter(|(meta, _)| reaches(meta)) else {
            // No snapshot of this node has what it has not applied: such a request costs nothing.
            let applied = self.raft.metrics().borrow().last_applied;
            if applied.is_none_or(|last| last.index < at_least) {
                return Ok(SnapshotResponse::NoImage);
            }
            // It is made meanwhile. If consensus has stopped there will be none.
            if let Err(error) = self.raft.trigger().snapshot().await {
                tracing::debug!(%error, "no snapshot is made");
            }
            return Ok(SnapshotResponse::NoImage);
        };
        let data = dir.data();
        let sealed = self.machine.seal_snapshot(&data);
        match timeout(self.config.timers.heartbeat, sealed).await {
            Ok(sealed) => sealed?,
            Err(_) => return Ok(SnapshotResponse::NoImage),
        }
        let listed = dir.clone();
        let io = BlockingIo::new(&self.config);
        let manifest = io.run(move || listed.manifest(&meta)).await?;
        let answer = Manifest::clone(&manifest);
        self.lease.set(LeasedSnapshot {
            hash: manifest.hash(),
            manifest,
            dir,
        });
        Ok(SnapshotResponse::Image { manifest: answer })
    }

    /// A piece of a file of the snapshot that was described last.
    pub(crate) async fn read(
        &self,
        hash: [u8; 32],
        file: u32,
        offset: u64,
    ) -> Result<SnapshotResponse, SnapshotError> {
        let Some(leased) = self.lease.get(hash) else {
            return Ok(SnapshotResponse::NoImage);
        };
        let info = leased.manifest.files.get(file as usize);
        let rest = info.and_then(|info| info.bytes.checked_sub(offset));
        let (Some(info), Some(rest @ 1..)) = (info, rest) else {
            return Ok(SnapshotResponse::NoImage);
        };
        let bytes_max = self.config.limits.snapshot_chunk_bytes;
        let bytes_max = self.throttle.piece_bytes(bytes_max);
        let len = rest.min(bytes_max as u64) as usize;
        self.throttle.wait(len).await;
        let path = leased.dir.data().join(&info.name);
        let io = BlockingIo::new(&self.config);
        let bytes = io.run(move || read_at(&path, offset, len)).await?;
        Ok(SnapshotResponse::Piece { bytes })
    }
}
