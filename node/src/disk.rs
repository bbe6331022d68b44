//! The space on the disk, and what a node does when it gets scarce: before anything breaks it takes
//! no transactions and no part in consensus, so that the others go on without it. It answers reads,
//! says so once, and goes on by itself when there is space.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lamplighter_consensus::Consensus;
use lamplighter_ledger::{DiskFull, Handle};
use lamplighter_rocks::RocksKv;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::failure::Failures;

/// Between two looks. A node writes some 100 MB/s at most, so it sees the reserve long before the
/// end of it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The reserve unless it is configured, or a twentieth of the disk where that is less: memtables
/// that have yet to be flushed (32 MiB), a compaction's output, and the log of an hour.
const RESERVE_BYTES: u64 = 512 << 20;
const RESERVE_PART: u64 = 20;
/// A node goes on when there is a quarter more than the reserve, so that it does not come and go.
const BACK_PART: u64 = 4;
/// Bytes that the scrubber reads in a second unless it is configured.
const SCRUB_BYTES_PER_S: u64 = 4 << 20;
/// Batches between two images unless it is configured.
const SNAPSHOT_EVERY_BATCHES: u64 = 10_000;
/// Less would be images all the time.
const SNAPSHOT_EVERY_BATCHES_MIN: u64 = 100;
/// Bytes of images sent in a second unless it is configured: half of what a link of 1 Gbit/s takes.
const IMAGE_BYTES_PER_S: u64 = 64 << 20;
/// With less an image would not arrive before it is old.
const IMAGE_BYTES_PER_S_MIN: u64 = 64 << 10;
/// Part of the batches of an image that stay in the log, for nodes that are a little behind.
const KEPT_PART: u64 = 10;

/// How a node treats its disk: the table `[disk]` of its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// Bytes that stay free: with less the node is read-only.
    pub reserve_bytes: Option<u64>,
    /// Bytes that the scrubber reads in a second; 0 switches it off.
    pub scrub_bytes_per_s: u64,
    /// After so many batches an image of the chain is made, and the Raft log before it purged. The
    /// same on every node.
    pub snapshot_every_batches: u64,
    /// Bytes of such images that are sent in a second, to all other nodes together: what they leave
    /// of the link is the log's.
    pub image_bytes_per_s: u64,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            reserve_bytes: None,
            scrub_bytes_per_s: SCRUB_BYTES_PER_S,
            snapshot_every_batches: SNAPSHOT_EVERY_BATCHES,
            image_bytes_per_s: IMAGE_BYTES_PER_S,
        }
    }
}

impl DiskConfig {
    /// Sets how long the Raft log gets, and how fast images are sent.
    pub(crate) fn limit(&self, limits: &mut lamplighter_consensus::Limits) {
        let every = self.snapshot_every_batches.max(SNAPSHOT_EVERY_BATCHES_MIN);
        limits.snapshot_every_entries = every;
        limits.keep_entries = every / KEPT_PART;
        limits.snapshot_bytes_per_s = self.image_bytes_per_s.max(IMAGE_BYTES_PER_S_MIN);
    }
}

/// Whether consensus may talk to the other nodes. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub fn set_closed(&self, closed: bool) {
        self.0.store(closed, Ordering::SeqCst);
    }
}

/// Free bytes and all bytes of the file system that a directory is on.
fn space(dir: &Path) -> std::io::Result<(u64, u64)> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    let unit = found.fragment_size();
    Ok((found.blocks_available() * unit, found.blocks() * unit))
}

/// What tells the rest of a node about its disk.
pub(crate) struct Watch {
    pub dir: PathBuf,
    pub config: DiskConfig,
    pub kv: RocksKv,
    pub handle: Handle,
    pub consensus: Consensus,
    pub gate: Gate,
    pub failures: Failures,
}

impl Watch {
    /// Looks once. Before consensus talks to anybody this decides how it begins.
    pub async fn look(self: &Arc<Self>) {
        let watch = self.clone();
        // statvfs waits when the disk does, which must not hold up anybody else.
        let looked = tokio::task::spawn_blocking(move || watch.examine()).await;
        let Ok(Some((free, all))) = looked else {
            return;
        };
        let Some(closed) = self.take(free, all) else {
            return;
        };
        if let Err(error) = self.consensus.set_passive(closed).await {
            tracing::warn!(%error, "consensus does not answer");
        }
    }

    /// Free bytes and all bytes, and whether the store failed in the background.
    fn examine(&self) -> Option<(u64, u64)> {
        if let Err(error) = self.kv.check_background() {
            self.failures.report(&crate::causes(&error));
        }
        match space(&self.dir) {
            Ok(space) => Some(space),
            Err(error) => {
                let what = format!("asking for the space of {}: {error}", self.dir.display());
                self.failures.report(&what);
                None
            }
        }
    }

    /// Opens or closes the gate; tells whether it is closed if that has changed.
    fn take(&self, free_bytes: u64, all: u64) -> Option<bool> {
        let usual = RESERVE_BYTES.min(all / RESERVE_PART);
        let reserve_bytes = self.config.reserve_bytes.unwrap_or(usual);
        let was = self.handle.disk_full();
        let needed = match was {
            Some(_) => reserve_bytes + reserve_bytes / BACK_PART,
            None => reserve_bytes,
        };
        let full = (free_bytes < needed).then_some(DiskFull {
            free_bytes,
            reserve_bytes,
        });
        self.gate.set_closed(full.is_some());
        self.handle.set_disk_full(full);
        match (was, full) {
            (None, Some(full)) => tracing::error!(dir = %self.dir.display(), "{full}"),
            (Some(_), None) => {
                tracing::warn!(free_bytes, "there is space again, this node goes on");
            }
            _ => return None,
        }
        Some(full.is_some())
    }

    /// Looks again and again until the node stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let looks = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                self.look().await;
            }
        };
        stop.run_until_cancelled(looks).await;
    }
}
