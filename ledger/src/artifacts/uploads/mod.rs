//! Unfinished uploads. Each uploader has a separate upload of an artifact, so that no client can
//! spoil, misannounce or drop another's. They are local to this node and its clock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use lamplighter_types::artifact::ArtifactMismatch;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use lamplighter_types::{Hash, Id};
use tokio::sync::Mutex as AsyncMutex;

use super::files::UploadFile;
use super::{
    APPEND_BYTES_MAX, ArtifactError, ArtifactLimits, Artifacts, Index, blocking, run_to_completion,
};

/// The origin of an upload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Uploader {
    /// This node, which fetches from a peer.
    Node,
    /// An unknown client of a node without login.
    Anyone,
    Account(Id),
}

/// File name part for [`Uploader::Anyone`]; ids have no capital letters.
const ANYONE: &str = "ANYONE";

impl Uploader {
    /// The uploader in file names; the node itself is not named.
    pub(super) fn file_name(&self) -> Option<&str> {
        match self {
            Self::Node => None,
            Self::Anyone => Some(ANYONE),
            Self::Account(account) => Some(account.as_str()),
        }
    }

    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        match name {
            ANYONE => Some(Self::Anyone),
            account => Id::new(account).ok().map(Self::Account),
        }
    }
}

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

/// An unfinished upload as the index has it.
#[derive(Debug)]
struct Upload {
    /// The announced size.
    size_bytes: u64,
    /// Time of the last call that began, continued or extended it.
    modified: SystemTime,
    /// Held while the upload's file is written or removed.
    writer: Arc<AsyncMutex<()>>,
}

type UploadKey = (Hash, Uploader);

/// All unfinished uploads.
#[derive(Debug, Default)]
pub(super) struct Uploads(BTreeMap<UploadKey, Upload>);

impl Uploads {
    /// Adds an upload from before the start.
    pub fn insert(&mut self, file: UploadFile) {
        let upload = Upload {
            size_bytes: file.size_bytes,
            modified: file.modified,
            writer: Arc::default(),
        };
        self.0.insert((file.digest, file.uploader), upload);
    }

    fn bytes(&self) -> u64 {
        self.0.values().map(|upload| upload.size_bytes).sum()
    }
}

impl Index {
    /// Adds a new upload, if the limits allow it.
    fn reserve(
        &mut self,
        key: &UploadKey,
        size_bytes: u64,
        limits: &ArtifactLimits,
    ) -> Result<(), ArtifactError> {
        let uploaders = self.uploads.0.keys().map(|(_, uploader)| uploader);
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
        let used = self.complete.values().sum::<u64>() + self.uploads.bytes();
        if used + size_bytes > limits.bytes_max {
            let bytes_max = limits.bytes_max;
            return Err(ArtifactError::Quota { bytes_max });
        }
        let upload = Upload {
            size_bytes,
            modified: SystemTime::now(),
            writer: Arc::default(),
        };
        self.uploads.0.insert(key.clone(), upload);
        Ok(())
    }
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
        let now = SystemTime::now();
        self.expire(now).await;
        let key = (digest, uploader.clone());
        if self.announced(&key).is_ok_and(|size| size != size_bytes) {
            self.remove(&key, move |upload| upload.size_bytes != size_bytes)
                .await?;
        }
        {
            let mut index = self.index();
            if let Some(size) = index.complete.get(&digest) {
                return Ok(*size);
            }
            match index.uploads.0.get_mut(&key) {
                Some(upload) => upload.modified = now,
                None => index.reserve(&key, size_bytes, &self.0.limits)?,
            }
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
    fn announced(&self, key: &UploadKey) -> Result<u64, ArtifactError> {
        let index = self.index();
        let upload = index.uploads.0.get(key);
        upload
            .map(|upload| upload.size_bytes)
            .ok_or(ArtifactError::Missing(key.0))
    }

    fn writer(&self, key: &UploadKey) -> Option<Arc<AsyncMutex<()>>> {
        let index = self.index();
        let upload = index.uploads.0.get(key);
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
            let uploads = index.uploads.0.iter().filter(is_unfinished);
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
            let uploads = index.uploads.0.iter();
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
            let upload = index.uploads.0.get(key);
            match upload.filter(|upload| condition(upload)) {
                Some(upload) => upload.size_bytes,
                None => return Ok(()),
            }
        };
        let (files, (digest, uploader)) = (self.0.files.clone(), key.clone());
        blocking(move || files.remove(&files.part(&digest, size_bytes, &uploader))).await?;
        self.index().uploads.0.remove(key);
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
        } else if let Some(upload) = self.index().uploads.0.get_mut(&key) {
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
        let completed = blocking(move || {
            if is_complete {
                files.remove(&part)
            } else {
                files.complete_part(&digest, &part)
            }
        });
        let completed = self.record_failed_sync(completed.await);
        let mut index = self.index();
        if completed.is_ok() {
            // An artifact that is complete already keeps its size: this uploader may have
            // announced another one.
            index.complete.entry(digest).or_insert(size_bytes);
        }
        let can_continue = matches!(
            completed,
            Err(ArtifactError::Io { .. } | ArtifactError::Unsynced { .. })
        );
        if !can_continue {
            index.uploads.0.remove(key);
        }
        completed
    }
}

#[cfg(test)]
mod tests;
