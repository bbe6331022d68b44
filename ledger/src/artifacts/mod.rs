//! Firmware images on this validator: files named by their blake3 digest, verified when they arrive
//! and whenever they are read, fetched from other validators if they are missing.
//!
//! Bytes that an approver has released are counted to the city; all others to the organization that
//! uploaded or published them, within its limits, so that nobody's bytes keep out a release. A
//! digest alone takes no space: a fetch reserves its bytes when a peer has shown the first of them.
//! Bytes of revoked and expired releases are removed when the time of the policy has passed, unless
//! another release or a rollout at work needs them.

mod collect;
mod error;
mod fetch;
mod files;
mod index;
pub(crate) mod replicate;
mod scrub;
mod uploads;
mod wanted;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lamplighter_types::Hash;
use lamplighter_types::artifact::Groups;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

pub use error::ArtifactError;
pub use fetch::{ArtifactPeers, PeerFailure};
use files::ArtifactFiles;
pub use files::Uploader;
pub use index::ArtifactLimits;
use index::{Charge, Index};
pub use scrub::ArtifactScrub;
pub use uploads::UnfinishedUpload;

use crate::message::ArtifactRequest;
pub use crate::message::RANGE_BYTES_MAX;

/// Bytes of one appended piece.
pub const APPEND_BYTES_MAX: usize = 4 << 20;

struct ArtifactStore {
    files: ArtifactFiles,
    limits: ArtifactLimits,
    /// The content of the folder, never held over file work.
    index: Mutex<Index>,
    /// Held while an upload becomes an artifact: two uploads of one artifact write the same files.
    completing: AsyncMutex<()>,
    /// Wakes the replicator when an artifact has become complete.
    completed: Notify,
    failed: watch::Sender<Option<Arc<str>>>,
    damaged: watch::Sender<(u64, Option<Hash>)>,
}

/// The artifacts of one node. Clones share them.
#[derive(Clone)]
pub struct Artifacts(Arc<ArtifactStore>);

impl Artifacts {
    /// Opens the folder, or makes it. Unfinished uploads can be continued.
    pub async fn open(dir: PathBuf, limits: ArtifactLimits) -> Result<Self, ArtifactError> {
        blocking(move || {
            let files = ArtifactFiles::open(dir)?;
            let scan = files.scan()?;
            Ok(Self(Arc::new(ArtifactStore {
                files,
                limits,
                index: Mutex::new(Index::new(scan)),
                completing: AsyncMutex::default(),
                completed: Notify::new(),
                failed: watch::Sender::new(None),
                damaged: watch::Sender::default(),
            })))
        })
        .await
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0
            .index
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    /// The failed sync after which nothing more is stored. The node stops then.
    pub fn failed(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.failed.subscribe()
    }

    /// Records a failed sync, after which nothing more is stored.
    fn record_failed_sync<T>(&self, result: Result<T, ArtifactError>) -> Result<T, ArtifactError> {
        if let Err(ArtifactError::Unsynced { path, source }) = &result {
            let reason = format!("syncing {}: {source}", path.display());
            self.0.failed.send_replace(Some(reason.into()));
        }
        result
    }

    /// The size of a complete artifact.
    pub fn size(&self, digest: &Hash) -> Option<u64> {
        let index = self.index();
        index.complete.get(digest).map(|stored| stored.size_bytes)
    }

    /// The complete artifacts and their sizes.
    pub fn list(&self) -> Vec<(Hash, u64)> {
        self.index()
            .complete
            .iter()
            .map(|(digest, stored)| (*digest, stored.size_bytes))
            .collect()
    }

    /// The group values of a complete artifact.
    pub async fn groups(&self, digest: Hash) -> Result<Groups, ArtifactError> {
        let size_bytes = self.size(&digest).ok_or(ArtifactError::Missing(digest))?;
        let files = self.0.files.clone();
        let read = blocking(move || files.read_groups(&digest, size_bytes)).await;
        if read.is_err() {
            self.quarantine(digest, 0).await?;
        }
        read
    }

    /// Takes a damaged artifact out of use and notifies the replicator, even if the reader stops
    /// waiting.
    async fn quarantine(&self, digest: Hash, group: u64) -> Result<(), ArtifactError> {
        let artifacts = self.clone();
        run_to_completion(async move {
            if artifacts.index().complete.remove(&digest).is_none() {
                // It was collected, or moved aside, while it was read.
                return Err(ArtifactError::Missing(digest));
            }
            tracing::error!(
                %digest,
                group,
                "an artifact is damaged on this disk; it is fetched again"
            );
            let files = artifacts.0.files.clone();
            let moved = blocking(move || files.quarantine(&digest)).await;
            artifacts.record_failed_sync(moved)?;
            artifacts.0.damaged.send_modify(|(count, last)| {
                *count += 1;
                *last = Some(digest);
            });
            Ok(())
        })
        .await
    }

    /// The number of artifacts found damaged since the start, and the last of them.
    pub fn damaged(&self) -> watch::Receiver<(u64, Option<Hash>)> {
        self.0.damaged.subscribe()
    }

    /// Reads a range of at most [`RANGE_BYTES_MAX`] bytes, verified. A damaged artifact is moved
    /// aside and not served; it is fetched again from the others.
    pub async fn read(
        &self,
        digest: Hash,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, ArtifactError> {
        let size_bytes = self.size(&digest).ok_or(ArtifactError::Missing(digest))?;
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= size_bytes);
        if !inside || length == 0 || length > RANGE_BYTES_MAX {
            return Err(ArtifactError::Range {
                offset,
                length,
                size_bytes,
            });
        }
        let files = self.0.files.clone();
        let read = blocking(move || {
            let groups = files.read_groups(&digest, size_bytes);
            let groups = groups.map_err(|_| ArtifactError::Damaged { digest, group: 0 })?;
            files.read(&groups, offset, length)
        })
        .await;
        if let Err(ArtifactError::Damaged { group, .. }) = read {
            self.quarantine(digest, group).await?;
        }
        read.map(Bytes::from)
    }

    /// Answers another validator.
    pub async fn serve(&self, request: ArtifactRequest) -> Result<Bytes, ArtifactError> {
        match request {
            ArtifactRequest::Groups { digest } => Ok(self.groups(digest).await?.to_bytes().into()),
            ArtifactRequest::Range {
                digest,
                offset,
                length,
            } => self.read(digest, offset, length).await,
        }
    }
}

/// Completes the work even if the caller is dropped, as the request of a client that disconnects:
/// otherwise the files would still change, but without the lock and without a record of the result.
async fn run_to_completion<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    tokio::spawn(work).await.expect("file work does not panic")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("file work does not panic")
}

#[cfg(test)]
mod tests;
