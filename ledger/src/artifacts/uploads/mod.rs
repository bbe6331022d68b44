//! Unfinished uploads. Each uploader has a separate upload of an artifact, so that no client can
//! spoil, misannounce or drop another's. They are local to this node and its clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use lamplighter_types::Hash;
use lamplighter_types::artifact::ArtifactMismatch;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use tokio::sync::Mutex as AsyncMutex;

use super::error::ArtifactError;
use super::files::Uploader;
use super::index::{Charge, Index, StoredArtifact, Upload, UploadKey};
use super::{APPEND_BYTES_MAX, Artifacts, blocking, run_to_completion};

/// An upload without all its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedUpload {
    pub digest: Hash,
    /// The announced size.
    pub size_bytes: u64,
    /// Bytes that are on disk.
    pub offset: u64,
    /// The time when it is dropped, unless bytes are added before.
    pub expires: SystemTime,
}

impl Artifacts {
    /// Begins or continues an upload, and returns the number of its bytes that are here; a complete
    /// artifact has all. An upload that this uploader began with another size starts over.
    pub async fn begin(
        &self,
        uploader: &Uploader,
        digest: Hash,
        size_bytes: u64,
    ) -> Result<u64, ArtifactError> {
        if size_bytes == 0 || size_bytes > ARTIFACT_BYTES_MAX {
            let source = ArtifactMismatch::Size(size_bytes);
            return Err(ArtifactError::Mismatch { digest, source });
        }
        self.expire(SystemTime::now()).await;
        let limits = &self.0.limits;
        self.enter(uploader, digest, size_bytes, |index, key| {
            match index.uploads.get_mut(key) {
                Some(upload) => upload.modified = SystemTime::now(),
                None => index.reserve_upload(key, size_bytes, limits)?,
            }
            Ok(())
        })
        .await
    }

    /// Begins or continues a fetch of this node, once a peer has shown that the bytes exist.
    pub(super) async fn begin_fetch(
        &self,
        digest: Hash,
        size_bytes: u64,
        charge: &Charge,
    ) -> Result<u64, ArtifactError> {
        let limits = &self.0.limits;
        self.enter(&Uploader::Node, digest, size_bytes, |index, key| {
            index.reserve(key, size_bytes, charge.clone(), limits)
        })
        .await
    }

    /// Enters an upload into the index by `reserve`, and returns the number of its bytes that are
    /// here.
    async fn enter(
        &self,
        uploader: &Uploader,
        digest: Hash,
        size_bytes: u64,
        reserve: impl FnOnce(&mut Index, &UploadKey) -> Result<(), ArtifactError>,
    ) -> Result<u64, ArtifactError> {
        let key = (digest, uploader.clone());
        if self.announced(&key).is_ok_and(|size| size != size_bytes) {
            self.remove(&key, move |upload| upload.size_bytes != size_bytes)
                .await?;
        }
        {
            let mut index = self.index();
            if let Some(stored) = index.complete.get(&digest) {
                return Ok(stored.size_bytes);
            }
            reserve(&mut index, &key)?;
        }
        let offset = self.offset(uploader, digest).await?;
        // The node stopped between the last byte and the check of the whole.
        if offset == size_bytes && self.size(&digest).is_none() {
            return self.append(uploader, digest, offset, Bytes::new()).await;
        }
        Ok(offset)
    }

    /// The number of an upload's bytes that are on disk.
    pub async fn offset(&self, uploader: &Uploader, digest: Hash) -> Result<u64, ArtifactError> {
        if let Some(size) = self.size(&digest) {
            return Ok(size);
        }
        let key = (digest, uploader.clone());
        let size_bytes = self.announced(&key)?;
        let files = self.0.files.clone();
        blocking(move || files.length(&files.part(&digest, size_bytes, &key.1))).await
    }

    /// The announced size of an upload.
    pub(super) fn announced(&self, key: &UploadKey) -> Result<u64, ArtifactError> {
        let index = self.index();
        let upload = index.uploads.get(key);
        upload
            .map(|upload| upload.size_bytes)
            .ok_or(ArtifactError::Missing(key.0))
    }

    fn writer(&self, key: &UploadKey) -> Option<Arc<AsyncMutex<()>>> {
        let index = self.index();
        let upload = index.uploads.get(key);
        upload.map(|upload| upload.writer.clone())
    }

    /// The unfinished uploads of one uploader.
    pub async fn uploads(
        &self,
        uploader: &Uploader,
    ) -> Result<Vec<UnfinishedUpload>, ArtifactError> {
        let mut unfinished: Vec<_> = {
            let index = self.index();
            let is_unfinished = |((digest, by), _): &(&UploadKey, &Upload)| {
                by == uploader && !index.complete.contains_key(digest)
            };
            let uploads = index.uploads.iter().filter(is_unfinished);
            let uploads = uploads.map(|((digest, _), upload)| UnfinishedUpload {
                digest: *digest,
                size_bytes: upload.size_bytes,
                offset: 0,
                expires: upload.modified + self.0.limits.idle_max,
            });
            uploads.collect()
        };
        let (files, uploader) = (self.0.files.clone(), uploader.clone());
        blocking(move || {
            for upload in &mut unfinished {
                let part = files.part(&upload.digest, upload.size_bytes, &uploader);
                upload.offset = files.length(&part)?;
            }
            Ok(unfinished)
        })
        .await
    }

    /// Drops an unfinished upload with its bytes.
    ///
    /// # Errors
    /// This uploader has no upload of the artifact.
    pub async fn drop_upload(
        &self,
        uploader: &Uploader,
        digest: Hash,
    ) -> Result<(), ArtifactError> {
        let key = (digest, uploader.clone());
        self.announced(&key)?;
        self.remove(&key, |_| true).await
    }

    /// Drops the uploads that were idle for too long, and those of artifacts that another uploader
    /// completed. One that can't be removed stays, and blocks nothing.
    pub async fn expire(&self, now: SystemTime) {
        let idle_max = self.0.limits.idle_max;
        // A clock that was set back expires nothing.
        let is_idle = move |upload: &Upload| {
            now.duration_since(upload.modified)
                .is_ok_and(|idle| idle > idle_max)
        };
        let expired: Vec<_> = {
            let index = self.index();
            let uploads = index.uploads.iter();
            let expired = uploads.filter(|((digest, _), upload)| {
                is_idle(upload) || index.complete.contains_key(digest)
            });
            expired.map(|(key, _)| key.clone()).collect()
        };
        for key in expired {
            let (digest, by) = (key.0, &key.1);
            tracing::info!(%digest, ?by, "an unfinished upload is dropped");
            let complete = self.size(&digest).is_some();
            let removed = self.remove(&key, move |upload| complete || is_idle(upload));
            if let Err(error) = removed.await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(%digest, ?by, error, "an unfinished upload can't be dropped");
            }
        }
    }

    /// Removes an upload once no call writes to it, if the condition still holds.
    async fn remove(
        &self,
        key: &UploadKey,
        condition: impl Fn(&Upload) -> bool + Send + 'static,
    ) -> Result<(), ArtifactError> {
        let Some(writer) = self.writer(key) else {
            return Ok(());
        };
        let writer = writer.lock_owned().await;
        let (artifacts, key) = (self.clone(), key.clone());
        run_to_completion(async move {
            let _writer = writer;
            artifacts.remove_locked(&key, condition).await
        })
        .await
    }

    async fn remove_locked(
        &self,
        key: &UploadKey,
        condition: impl Fn(&Upload) -> bool,
    ) -> Result<(), ArtifactError> {
        let size_bytes = {
            let index = self.index();
            let upload = index.uploads.get(key);
            match upload.filter(|upload| condition(upload)) {
                Some(upload) => upload.size_bytes,
                None => return Ok(()),
            }
        };
        let (files, (digest, uploader)) = (self.0.files.clone(), key.clone());
        blocking(move || files.remove(&files.part(&digest, size_bytes, &uploader))).await?;
        self.index().uploads.remove(key);
        Ok(())
    }

    /// Appends bytes that begin at `offset`, and returns the new offset; if the artifact was
    /// completed meanwhile, its size. With the last byte the artifact is verified and complete, or
    /// dropped because it has another digest. An append that has begun is completed, even if the
    /// caller stops waiting.
    pub async fn append(
        &self,
        uploader: &Uploader,
        digest: Hash,
        offset: u64,
        bytes: Bytes,
    ) -> Result<u64, ArtifactError> {
        if let Some(reason) = &*self.0.failed.borrow() {
            return Err(ArtifactError::Failed(reason.clone()));
        }
        let key = (digest, uploader.clone());
        let Some(writer) = self.writer(&key) else {
            return self.size(&digest).ok_or(ArtifactError::Missing(digest));
        };
        // The caller waits for the lock, so that a dropped call does not stay in the queue.
        let writer = writer.lock_owned().await;
        let artifacts = self.clone();
        run_to_completion(async move {
            let _writer = writer;
            artifacts.append_locked(key, offset, bytes).await
        })
        .await
    }

    async fn append_locked(
        &self,
        key: UploadKey,
        offset: u64,
        bytes: Bytes,
    ) -> Result<u64, ArtifactError> {
        let (digest, uploader) = &key;
        if let Some(size) = self.size(digest) {
            return Ok(size);
        }
        // The upload may have been dropped, or started over, before the lock was taken.
        let size_bytes = self.announced(&key)?;
        let expected = self.offset(uploader, *digest).await?;
        if expected != offset {
            let got = offset;
            return Err(ArtifactError::Offset { expected, got });
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
        let path = files.part(digest, size_bytes, uploader);
        let part = path.clone();
        let appended = blocking(move || files.append(&part, offset, &bytes)).await;
        self.record_failed_sync(appended)?;
        if end == size_bytes {
            self.complete(&key, size_bytes, path).await?;
        } else if let Some(upload) = self.index().uploads.get_mut(&key) {
            upload.modified = SystemTime::now();
        }
        Ok(self.size(digest).unwrap_or(end))
    }

    /// Makes an upload that has all its bytes an artifact, or drops it because it has another
    /// digest.
    async fn complete(
        &self,
        key: &UploadKey,
        size_bytes: u64,
        part: PathBuf,
    ) -> Result<(), ArtifactError> {
        let _completing = self.0.completing.lock().await;
        let (files, digest) = (self.0.files.clone(), key.0);
        let is_complete = self.size(&digest).is_some();
        let owner = key.1.organization().cloned();
        let by = owner.clone();
        let completed = blocking(move || {
            if is_complete {
                files.remove(&part)
            } else {
                files.complete_part(&digest, &part, by.as_ref())
            }
        });
        let completed = self.record_failed_sync(completed.await);
        let mut index = self.index();
        if completed.is_ok() {
            // An artifact that is complete already keeps its size: this uploader may have
            // announced another one.
            let mut stored = StoredArtifact::new(size_bytes, owner, SystemTime::now());
            if let Some(upload) = index.uploads.get(key) {
                stored.charge = upload.charge.clone();
            }
            index.complete.entry(digest).or_insert(stored);
            self.0.completed.notify_one();
        }
        let can_continue = matches!(
            completed,
            Err(ArtifactError::Io { .. } | ArtifactError::Unsynced { .. })
        );
        if !can_continue {
            index.uploads.remove(key);
        }
        completed
    }
}

#[cfg(test)]
mod tests;
