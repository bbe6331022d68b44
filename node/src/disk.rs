//! The free space of the disk. A node whose disk is nearly full becomes read-only before a write
//! fails: it accepts no transactions and takes no part in consensus, so that the others continue
//! without it. It answers reads, logs this once, and continues by itself when there is space.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lamplighter_consensus::Consensus;
use lamplighter_ledger::{DiskFull, Handle};
use lamplighter_rocks::RocksKv;
use lamplighter_system::error_chain;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::fatal_errors::FatalErrors;

/// The interval of checks. A node writes some 100 MB/s at most, so it notices that it uses the
/// reserve long before the reserve is used up.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The default reserve, or a twentieth of the disk where that is less. It holds memtables that are
/// not flushed yet (32 MiB), a compaction's output, and the log of an hour.
const RESERVE_BYTES: u64 = 512 << 20;
const RESERVE_PART: u64 = 20;
/// A node becomes writable again with a quarter more than the reserve, so that it does not flap.
const HYSTERESIS_PART: u64 = 4;
/// The default of the bytes that the scrubber reads in a second.
const SCRUB_BYTES_PER_S: u64 = 4 << 20;
/// The default number of batches between two images.
const SNAPSHOT_EVERY_BATCHES: u64 = 10_000;
/// The least number of batches between two images.
const SNAPSHOT_EVERY_BATCHES_MIN: u64 = 100;
/// The default of the bytes of images sent in a second: half of a link of 1 Gbit/s.
const IMAGE_BYTES_PER_S: u64 = 64 << 20;
/// The least rate of images; with less, an image would be old when it arrives.
const IMAGE_BYTES_PER_S_MIN: u64 = 64 << 10;
/// The part of the batches of an image that stay in the log, for nodes that are a little behind.
const KEPT_PART: u64 = 10;

/// The table `[disk]` of the configuration: the limits of a node's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// Free bytes below which the node is read-only.
    pub reserve_bytes: Option<u64>,
    /// Bytes that the scrubber reads in a second; 0 turns it off.
    pub scrub_bytes_per_s: u64,
    /// The number of batches after which an image of the chain is made and the Raft log before it
    /// is purged. It is the same on every node.
    pub snapshot_every_batches: u64,
    /// Bytes of such images that are sent in a second to all other nodes together; the rest of the
    /// link is for the log.
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
    /// The space of the disk that a folder is on.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn space(&self, dir: &Path) -> std::io::Result<DiskSpace> {
        let (free_bytes, total) = space(dir)?;
        Ok(DiskSpace {
            free_bytes,
            reserve_bytes: self.reserve(total),
        })
    }

    /// The reserve on a disk of so many bytes.
    fn reserve(&self, total: u64) -> u64 {
        let usual = RESERVE_BYTES.min(total / RESERVE_PART);
        self.reserve_bytes.unwrap_or(usual)
    }

    /// Applies these limits to those of consensus.
    pub(crate) fn limit(&self, limits: &mut lamplighter_consensus::Limits) {
        let every = self.snapshot_every_batches.max(SNAPSHOT_EVERY_BATCHES_MIN);
        limits.snapshot_every_entries = every;
        limits.keep_entries = every / KEPT_PART;
        limits.snapshot_bytes_per_s = self.image_bytes_per_s.max(IMAGE_BYTES_PER_S_MIN);
        // With the hysteresis, so that an image alone does not make the node read-only.
        let reserve_bytes = self.reserve_bytes.unwrap_or(RESERVE_BYTES);
        limits.snapshot_reserve_bytes = reserve_bytes + reserve_bytes / HYSTERESIS_PART;
    }
}

/// The space on the disk of a node.
#[derive(Clone, Copy, Debug)]
pub struct DiskSpace {
    pub free_bytes: u64,
    /// Free bytes below which the node is read-only.
    pub reserve_bytes: u64,
}

/// Separates consensus from the other nodes while it is closed. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsensusGate(Arc<AtomicBool>);

impl ConsensusGate {
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub fn set_closed(&self, closed: bool) {
        self.0.store(closed, Ordering::SeqCst);
    }
}

/// Free bytes and total bytes of a directory's file system.
fn space(dir: &Path) -> std::io::Result<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(dir)?;
    let unit = stat.fragment_size();
    Ok((stat.blocks_available() * unit, stat.blocks() * unit))
}

/// Free bytes of a directory's file system.
pub(crate) fn free_bytes(dir: &Path) -> std::io::Result<u64> {
    space(dir).map(|(free, _)| free)
}

/// Monitors the free space, and closes the gate while there is too little.
pub(crate) struct DiskMonitor {
    pub dir: PathBuf,
    pub config: DiskConfig,
    pub kv: RocksKv,
    pub handle: Handle,
    pub consensus: Consensus,
    pub gate: ConsensusGate,
    pub fatal_errors: FatalErrors,
}

impl DiskMonitor {
    /// Checks the space once. The first check decides whether consensus begins passive.
    pub async fn check(self: &Arc<Self>) {
        let monitor = self.clone();
        // statvfs waits when the disk does, which must not delay other tasks.
        let measured = tokio::task::spawn_blocking(move || monitor.measure()).await;
        let Ok(Some((free, total))) = measured else {
            return;
        };
        let Some(closed) = self.set_gate(free, total) else {
            return;
        };
        if let Err(error) = self.consensus.set_passive(closed).await {
            tracing::warn!(%error, "consensus does not answer");
        }
    }

    /// Measures free bytes and total bytes, and reports a background error of the store.
    fn measure(&self) -> Option<(u64, u64)> {
        if let Err(error) = self.kv.check_background() {
            self.fatal_errors.report(&error_chain(&error));
        }
        match space(&self.dir) {
            Ok(space) => Some(space),
            Err(error) => {
                let what = format!("asking for the space of {}: {error}", self.dir.display());
                self.fatal_errors.report(&what);
                None
            }
        }
    }

    /// Opens or closes the gate; returns whether it is closed if that has changed.
    fn set_gate(&self, free_bytes: u64, total: u64) -> Option<bool> {
        let reserve_bytes = self.config.reserve(total);
        let was = self.handle.disk_full();
        let needed = match was {
            Some(_) => reserve_bytes + reserve_bytes / HYSTERESIS_PART,
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

    /// Checks periodically until the node stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let checks = async {
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                self.check().await;
            }
        };
        stop.run_until_cancelled(checks).await;
    }
}
