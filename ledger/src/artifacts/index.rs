//! The index of the artifact folder in memory, and its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lamplighter_types::Hash;
use tokio::sync::Mutex as AsyncMutex;

use super::error::ArtifactError;
use super::files::{FolderScan, UploadFile, Uploader};

/// Bounds of the store.
#[derive(Clone, Debug)]
pub struct ArtifactLimits {
    /// Unfinished uploads of all clients.
    pub uploads_max: usize,
    /// Unfinished uploads of one account: several people may use it, and it can't use up the limit
    /// of all.
    pub uploads_per_account_max: usize,
    /// Bytes of all artifacts and uploads, as announced.
    pub bytes_max: u64,
    /// An upload that is idle for longer is dropped, or abandoned ones would use up the limits and
    /// the disk for ever. A day: an upload that broke off can be continued the next morning.
    pub idle_max: Duration,
}

impl Default for ArtifactLimits {
    fn default() -> Self {
        Self {
            uploads_max: 64,
            uploads_per_account_max: 8,
            bytes_max: 64 << 30,
            idle_max: Duration::from_secs(24 * 3600),
        }
    }
}

/// An unfinished upload.
#[derive(Debug)]
pub(super) struct Upload {
    /// The announced size.
    pub size_bytes: u64,
    /// Time of the last call that began, continued or extended it.
    pub modified: SystemTime,
    /// Held while the upload's file is written or removed.
    pub writer: Arc<AsyncMutex<()>>,
}

pub(super) type UploadKey = (Hash, Uploader);

#[derive(Debug)]
pub(super) struct Index {
    /// Sizes in bytes.
    pub complete: BTreeMap<Hash, u64>,
    pub uploads: BTreeMap<UploadKey, Upload>,
}

impl Index {
    pub fn new(scan: FolderScan) -> Self {
        let upload = |file: UploadFile| {
            let upload = Upload {
                size_bytes: file.size_bytes,
                modified: file.modified,
                writer: Arc::default(),
            };
            ((file.digest, file.uploader), upload)
        };
        Self {
            complete: scan.complete,
            uploads: scan.uploads.into_iter().map(upload).collect(),
        }
    }

    /// Adds a new upload, if the limits allow it.
    pub fn reserve(
        &mut self,
        key: &UploadKey,
        size_bytes: u64,
        limits: &ArtifactLimits,
    ) -> Result<(), ArtifactError> {
        let uploaders = self.uploads.keys().map(|(_, uploader)| uploader);
        let clients: Vec<_> = uploaders.filter(|by| **by != Uploader::Node).collect();
        let of_account = clients.iter().filter(|by| ***by == key.1).count();
        // The node's fetches are bounded by the ledger, and wait for no client.
        if key.1 != Uploader::Node {
            if of_account >= limits.uploads_per_account_max {
                return Err(ArtifactError::TooManyAccountUploads(of_account));
            }
            if clients.len() >= limits.uploads_max {
                return Err(ArtifactError::TooManyUploads(clients.len()));
            }
        }
        let announced: u64 = self.uploads.values().map(|u| u.size_bytes).sum();
        let used = self.complete.values().sum::<u64>() + announced;
        if used + size_bytes > limits.bytes_max {
            let bytes_max = limits.bytes_max;
            return Err(ArtifactError::Quota { bytes_max });
        }
        let upload = Upload {
            size_bytes,
            modified: SystemTime::now(),
            writer: Arc::default(),
        };
        self.uploads.insert(key.clone(), upload);
        Ok(())
    }
}
