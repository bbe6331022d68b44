//! The space that an image from another node may take.

use std::fs;
use std::io;
use std::path::Path;

use super::message::Manifest;
use super::{DATA, ReceiveError, SnapshotError};
use crate::config::ConsensusConfig;

/// Measures the free bytes of a directory's file system.
pub type FreeBytes = fn(&Path) -> io::Result<u64>;

/// The limits of an image that is received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotSpace {
    pub bytes_max: u64,
    /// Bytes of the disk that stay free.
    pub reserve_bytes: u64,
    /// None where the disk is simulated.
    pub free_bytes: Option<FreeBytes>,
}

impl SnapshotSpace {
    pub(crate) fn new(config: &ConsensusConfig) -> Self {
        Self {
            bytes_max: config.limits.snapshot_bytes_max,
            reserve_bytes: config.limits.snapshot_reserve_bytes,
            free_bytes: config.free_bytes,
        }
    }

    /// Checks that what is missing of an image fits the disk, so that no image fills it up.
    pub(super) fn check(
        &self,
        dir: &Path,
        incoming: &Path,
        manifest: &Manifest,
    ) -> Result<(), ReceiveError> {
        let Some(free_bytes) = self.free_bytes else {
            return Ok(());
        };
        let present =
            |name: &str| fs::metadata(incoming.join(DATA).join(name)).map(|file| file.len());
        let missing = |file: &super::FileInfo| {
            let present = present(&file.name).unwrap_or(0);
            file.bytes.saturating_sub(present)
        };
        let missing: u64 = manifest.files.iter().map(missing).sum();
        let free = free_bytes(dir).map_err(SnapshotError::io("measure", dir))?;
        if missing <= free.saturating_sub(self.reserve_bytes) {
            return Ok(());
        }
        Err(ReceiveError::Invalid(format!(
            "an image that needs {missing} bytes more, of {free} free ones"
        )))
    }
}
