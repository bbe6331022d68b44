//! Firmware images on this validator: files named by their blake3 digest, verified when they come
//! in and whenever they are read, fetched from other validators where they are missing.

mod error;
mod fetch;
mod files;
mod scrub;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lamplighter_types::Hash;
use lamplighter_types::artifact::Groups;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, watch};

pub use error::ArtifactError;
pub use fetch::{ArtifactPeers, PeerFailure};
use files::Files;
pub use scrub::ArtifactScrub;

/// Bytes of one range that a peer may ask for.
pub const RANGE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one appended piece.
pub const APPEND_BYTES_MAX: usize = 4 << 20;

/// Bounds of the store.
#[derive(Clone, Debug)]
pub struct ArtifactLimits {
    /// Uploads under way at once.
    pub uploads_max: usize,
    /// Bytes of all artifacts and uploads, as announced.
    pub bytes_max: u64,
}

impl Default for ArtifactLimits {
    fn default() -> Self {
        Self {
            uploads_max: 64,
            bytes_max: 64 << 30,
        }
    }
}

/// What one validator asks another for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArtifactRequest {
    /// The group values.
    Groups { digest: Hash },
    /// At most [`RANGE_BYTES_MAX`] bytes.
    Range {
        digest: Hash,
        offset: u64,
        length: u64,
    },
}

#[derive(Debug, Default)]
struct Index {
    /// Sizes in bytes.
    complete: BTreeMap<Hash, u64>,
    /// Announced sizes in bytes.
    parts: BTreeMap<Hash, u64>,
    /// One writer per upload; an entry lives as long as its upload.
    writers: HashMap<Hash, Arc<AsyncMutex<()>>>,
}

struct Inner {
    files: Files,
    limits: ArtifactLimits,
    index: Mutex<Index>,
    failed: watch::Sender<Option<Arc<str>>>,
    damaged: watch::Sender<(u64, Option<Hash>)>,
}

/// The artifacts of one node. Clones share it.
#[derive(Clone)]
pub struct Artifacts(Arc<Inner>);

impl Artifacts {
    /// Opens the folder, or makes it. Uploads that were under way can go on.
    pub async fn open(dir: PathBuf, limits: ArtifactLimits) -> Result<Self, ArtifactError> {
        blocking(move || {
            let files = Files::open(dir)?;
            let found = files.scan()?;
            let mut index = Index {
                complete: found.complete,
                ..Index::default()
            };
            for (digest, size) in found.parts {
                if !index.complete.contains_key(&digest) {
                    index.parts.insert(digest, size);
                }
            }
            Ok(Self(Arc::new(Inner {
                files,
                limits,
                index: Mutex::new(index),
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
            .expect("nobody panics with the index locked")
    }

    /// Why nothing more is taken: a sync that failed. Whoever runs the node ends it then.
    pub fn failed(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.failed.subscribe()
    }

    /// Remembers a sync that failed.
    fn note<T>(&self, done: Result<T, ArtifactError>) -> Result<T, ArtifactError> {
        if let Err(ArtifactError::Unsynced { path, source }) = &done {
            let what = format!("syncing {}: {source}", path.display());
            self.0.failed.send_replace(Some(what.into()));
        }
        done
    }

    /// The size of a complete artifact.
    pub fn size(&self, digest: &Hash) -> Option<u64> {
        self.index().complete.get(digest).copied()
    }

    /// The complete artifacts and their sizes.
    pub fn list(&self) -> Vec<(Hash, u64)> {
        self.index()
            .complete
            .iter()
            .map(|(digest, size)| (*digest, *size))
            .collect()
    }

    /// Begins an upload, or takes up one that was begun; returns the bytes that are here. A
    /// complete artifact has all its bytes.
    pub async fn begin(&self, digest: Hash, size_bytes: u64) -> Result<u64, ArtifactError> {
        if size_bytes == 0 || size_bytes > ARTIFACT_BYTES_MAX {
            let source = lamplighter_types::artifact::ArtifactMismatch::Size(size_bytes);
            return Err(ArtifactError::Mismatch { digest, source });
        }
        {
            let mut index = self.index();
            if let Some(size) = index.complete.get(&digest) {
                return Ok(*size);
            }
            match index.parts.get(&digest) {
                Some(stored) if *stored != size_bytes => {
                    return Err(ArtifactError::Size {
                        digest,
                        stored: *stored,
                        got: size_bytes,
                    });
                }
                Some(_) => {}
                None => self.reserve(&mut index, digest, size_bytes)?,
            }
        }
        self.offset(digest).await
    }

    fn reserve(&self, index: &mut Index, digest: Hash, size: u64) -> Result<(), ArtifactError> {
        let ArtifactLimits {
            uploads_max,
            bytes_max,
        } = self.0.limits;
        if index.parts.len() >= uploads_max {
            return Err(ArtifactError::TooManyUploads(index.parts.len()));
        }
        let taken: u64 = index.complete.values().chain(index.parts.values()).sum();
        if taken + size > bytes_max {
            return Err(ArtifactError::Quota { bytes_max });
        }
        index.parts.insert(digest, size);
        Ok(())
    }

    /// How many bytes of an upload are on disk.
    pub async fn offset(&self, digest: Hash) -> Result<u64, ArtifactError> {
        if let Some(size) = self.size(&digest) {
            return Ok(size);
        }
        let size_bytes = self.announced(&digest)?;
        let files = self.0.files.clone();
        blocking(move || files.length(&files.part(&digest, size_bytes))).await
    }

    fn announced(&self, digest: &Hash) -> Result<u64, ArtifactError> {
        self.index()
            .parts
            .get(digest)
            .copied()
            .ok_or(ArtifactError::Missing(*digest))
    }

    /// Appends bytes that begin at `offset`; returns the new offset. With the last byte the
    /// artifact is verified and complete, or dropped because it is another one.
    pub async fn append(
        &self,
        digest: Hash,
        offset: u64,
        bytes: Bytes,
    ) -> Result<u64, ArtifactError> {
        if let Some(what) = &*self.0.failed.borrow() {
            return Err(ArtifactError::Failed(what.clone()));
        }
        let size_bytes = self.announced(&digest)?;
        let writer = self.index().writers.entry(digest).or_default().clone();
        let _alone = writer.lock().await;
        let stands = self.offset(digest).await?;
        if stands != offset {
            return Err(ArtifactError::Offset {
                expected: stands,
                got: offset,
            });
        }
        let end = offset + bytes.len() as u64;
        if end > size_bytes || bytes.len() > APPEND_BYTES_MAX {
            let length = bytes.len() as u64;
            return Err(ArtifactError::Range {
                offset,
                length,
                size_bytes,
            });
        }
        let files = self.0.files.clone();
        let done = blocking(move || {
            files.append(&files.part(&digest, size_bytes), offset, &bytes)?;
            match end == size_bytes {
                true => files.complete_part(&digest, size_bytes),
                false => Ok(()),
            }
        })
        .await;
        let done = self.note(done);
        let mut index = self.index();
        if end == size_bytes && done.is_ok() {
            index.complete.insert(digest, size_bytes);
        }
        let stays = matches!(
            done,
            Err(ArtifactError::Io { .. } | ArtifactError::Unsynced { .. })
        );
        if end == size_bytes && !stays {
            index.parts.remove(&digest);
            index.writers.remove(&digest);
        }
        done.map(|()| end)
    }

    /// The group values of a complete artifact.
    pub async fn groups(&self, digest: Hash) -> Result<Groups, ArtifactError> {
        let size_bytes = self.size(&digest).ok_or(ArtifactError::Missing(digest))?;
        let files = self.0.files.clone();
        let read = blocking(move || files.read_groups(&digest, size_bytes)).await;
        if read.is_err() {
            self.set_aside(digest, 0).await?;
        }
        read
    }

    /// Takes a damaged artifact out of use. Whoever replicates is told.
    async fn set_aside(&self, digest: Hash, group: u64) -> Result<(), ArtifactError> {
        tracing::error!(%digest, group, "an artifact is damaged on this disk; it is fetched again");
        self.index().complete.remove(&digest);
        let files = self.0.files.clone();
        self.note(blocking(move || files.quarantine(&digest)).await)?;
        self.0.damaged.send_modify(|(count, last)| {
            *count += 1;
            *last = Some(digest);
        });
        Ok(())
    }

    /// How many were damaged since the start, and the last of them.
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
            self.set_aside(digest, group).await?;
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("file work does not panic")
}

#[cfg(test)]
mod tests;
