//! Uploads under way. Each uploader has its own of an artifact, so that nobody can spoil, announce
//! wrongly or drop another's. They are this node's matter alone, by its own clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use lamplighter_types::artifact::ArtifactMismatch;
use lamplighter_types::limits::ARTIFACT_BYTES_MAX;
use lamplighter_types::{Hash, Id};
use tokio::sync::Mutex as AsyncMutex;

use super::files::FoundPart;
use super::{
    APPEND_BYTES_MAX, ArtifactError, ArtifactLimits, Artifacts, Index, blocking, to_the_end,
};

/// Who uploads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Uploader {
    /// This node, which fetches from another one.
    Node,
    /// Somebody unknown, at a node that wants no login.
    Anyone,
    Account(Id),
}

/// In the place of an account; ids have no capital letters.
const ANYONE: &str = "ANYONE";

impl Uploader {
    /// How files name it; the node itself is not named.
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

/// An upload that is not whole yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedUpload {
    pub digest: Hash,
    /// As announced.
    pub size_bytes: u64,
    /// Bytes that are on disk.
    pub offset: u64,
    /// When it is dropped, unless something is added before.
    pub expires: SystemTime,
}

/// What is known of an upload.
#[derive(Debug)]
struct Part {
    size_bytes: u64,
    /// When it was begun, taken up or added to last.
    touched: SystemTime,
    /// Held by whoever writes or drops it.
    writer: Arc<AsyncMutex<()>>,
}

type Upload = (Hash, Uploader);

/// All uploads under way.
#[derive(Debug, Default)]
pub(super) struct Parts(BTreeMap<Upload, Part>);

impl Parts {
    /// Takes up what a scan found.
    pub fn insert(&mut self, found: FoundPart) {
        let part = Part {
            size_bytes: found.size_bytes,
            touched: found.touched,
            writer: Arc::default(),
        };
        self.0.insert((found.digest, found.uploader), part);
    }

    fn bytes(&self) -> u64 {
        self.0.values().map(|part| part.size_bytes).sum()
    }
}

impl Index {
    /// Notes a new upload, if there is room for it.
    fn reserve(
        &mut self,
        upload: &Upload,
        size_bytes: u64,
        limits: &ArtifactLimits,
    ) -> Result<(), ArtifactError> {
        let uploaders = self.parts.0.keys().map(|(_, uploader)| uploader);
        let clients: Vec<_> = uploaders.filter(|by| **by != Uploader::Node).collect();
        let own = clients.iter().filter(|by| ***by == upload.1).count();
        // What the node fetches is bounded by the ledger, and waits for no client.
        if upload.1 != Uploader::Node {
            if own >= limits.uploads_per_account_max {
                return Err(ArtifactError::TooManyAccountUploads(own));
            }
            if clients.len() >= limits.uploads_max {
                return Err(ArtifactError::TooManyUploads(clients.len()));
            }
        }
        let taken = self.complete.values().sum::<u64>() + self.parts.bytes();
        if taken + size_bytes > limits.bytes_max {
            let bytes_max = limits.bytes_max;
            return Err(ArtifactError::Quota { bytes_max });
        }
        let part = Part {
            size_bytes,
            touched: SystemTime::now(),
            writer: Arc::default(),
        };
        self.parts.0.insert(upload.clone(), part);
        Ok(())
    }
}

impl Artifacts {
    /// Begins an upload, or takes up one that was begun; returns the bytes that are here. A
    /// complete artifact has all its bytes. One that this uploader began with another size begins
    /// anew.
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
        let upload = (digest, uploader.clone());
        if self.announced(&upload).is_ok_and(|size| size != size_bytes) {
            self.remove(&upload, move |part| part.size_bytes != size_bytes)
                .await?;
        }
        {
            let mut index = self.index();
            if let Some(size) = index.complete.get(&digest) {
                return Ok(*size);
            }
            match index.parts.0.get_mut(&upload) {
                Some(part) => part.touched = now,
                None => index.reserve(&upload, size_bytes, &self.0.limits)?,
            }
        }
        let offset = self.offset(uploader, digest).await?;
        // The node stopped between the last byte and the check of the whole.
        if offset == size_bytes && self.size(&digest).is_none() {
            return self.append(uploader, digest, offset, Bytes::new()).await;
        }
        Ok(offset)
    }

    /// How many bytes of an upload are on disk.
    pub async fn offset(&self, uploader: &Uploader, digest: Hash) -> Result<u64, ArtifactError> {
        if let Some(size) = self.size(&digest) {
            return Ok(size);
        }
        let upload = (digest, uploader.clone());
        let size_bytes = self.announced(&upload)?;
        let files = self.0.files.clone();
        blocking(move || files.length(&files.part(&digest, size_bytes, &upload.1))).await
    }

    fn announced(&self, upload: &Upload) -> Result<u64, ArtifactError> {
        let index = self.index();
        let part = index.parts.0.get(upload);
        part.map(|part| part.size_bytes)
            .ok_or(ArtifactError::Missing(upload.0))
    }

    fn writer(&self, upload: &Upload) -> Option<Arc<AsyncMutex<()>>> {
        let index = self.index();
        index.parts.0.get(upload).map(|part| part.writer.clone())
    }

    /// The unfinished uploads of one uploader.
    pub async fn uploads(
        &self,
        uploader: &Uploader,
    ) -> Result<Vec<UnfinishedUpload>, ArtifactError> {
        let mut found: Vec<_> = {
            let index = self.index();
            let is_own = |((digest, by), _): &(&Upload, &Part)| {
                by == uploader && !index.complete.contains_key(digest)
            };
            let own = index.parts.0.iter().filter(is_own);
            let unfinished = own.map(|((digest, _), part)| UnfinishedUpload {
                digest: *digest,
                size_bytes: part.size_bytes,
                offset: 0,
                expires: part.touched + self.0.limits.idle_max,
            });
            unfinished.collect()
        };
        let (files, uploader) = (self.0.files.clone(), uploader.clone());
        blocking(move || {
            for upload in &mut found {
                let part = files.part(&upload.digest, upload.size_bytes, &uploader);
                upload.offset = files.length(&part)?;
            }
            Ok(found)
        })
        .await
    }

    /// Drops an unfinished upload with what came of it.
    ///
    /// # Errors
    /// This uploader has none of the artifact.
    pub async fn drop_upload(
        &self,
        uploader: &Uploader,
        digest: Hash,
    ) -> Result<(), ArtifactError> {
        let upload = (digest, uploader.clone());
        self.announced(&upload)?;
        self.remove(&upload, |_| true).await
    }

    /// Drops the uploads to which nothing was added for too long, and those of artifacts that came
    /// whole from somebody else. One that can't be removed stays and is in nobody's way.
    pub async fn expire(&self, now: SystemTime) {
        let idle_max = self.0.limits.idle_max;
        // A clock that was set back makes nothing old.
        let idle = move |part: &Part| now.duration_since(part.touched).is_ok_and(|t| t > idle_max);
        let expired: Vec<_> = {
            let index = self.index();
            let parts = index.parts.0.iter();
            let over = parts
                .filter(|((digest, _), part)| idle(part) || index.complete.contains_key(digest));
            over.map(|(upload, _)| upload.clone()).collect()
        };
        for upload in expired {
            let (digest, by) = (upload.0, &upload.1);
            tracing::info!(%digest, ?by, "an unfinished upload is dropped");
            let complete = self.size(&digest).is_some();
            let removed = self.remove(&upload, move |part| complete || idle(part));
            if let Err(error) = removed.await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(%digest, ?by, error, "an unfinished upload can't be dropped");
            }
        }
    }

    /// Removes an upload when nobody writes to it, if it is still one that `is_meant`.
    async fn remove(
        &self,
        upload: &Upload,
        is_meant: impl Fn(&Part) -> bool + Send + 'static,
    ) -> Result<(), ArtifactError> {
        let Some(writer) = self.writer(upload) else {
            return Ok(());
        };
        let alone = writer.lock_owned().await;
        let (artifacts, upload) = (self.clone(), upload.clone());
        to_the_end(async move {
            let _alone = alone;
            artifacts.remove_alone(&upload, is_meant).await
        })
        .await
    }

    async fn remove_alone(
        &self,
        upload: &Upload,
        is_meant: impl Fn(&Part) -> bool,
    ) -> Result<(), ArtifactError> {
        let size_bytes = {
            let index = self.index();
            match index.parts.0.get(upload).filter(|part| is_meant(part)) {
                Some(part) => part.size_bytes,
                None => return Ok(()),
            }
        };
        let (files, part) = (self.0.files.clone(), upload.clone());
        blocking(move || files.remove(&files.part(&part.0, size_bytes, &part.1))).await?;
        self.index().parts.0.remove(upload);
        Ok(())
    }

    /// Appends bytes that begin at `offset`; returns the new offset. With the last byte the
    /// artifact is verified and complete, or dropped because it is another one. One that came whole
    /// meanwhile has all its bytes. Once it has begun it is done to the end, also when the caller
    /// gives up.
    pub async fn append(
        &self,
        uploader: &Uploader,
        digest: Hash,
        offset: u64,
        bytes: Bytes,
    ) -> Result<u64, ArtifactError> {
        if let Some(what) = &*self.0.failed.borrow() {
            return Err(ArtifactError::Failed(what.clone()));
        }
        let upload = (digest, uploader.clone());
        let Some(writer) = self.writer(&upload) else {
            return self.size(&digest).ok_or(ArtifactError::Missing(digest));
        };
        // The caller waits for it: who gives up leaves nothing behind that waits.
        let alone = writer.lock_owned().await;
        let artifacts = self.clone();
        to_the_end(async move {
            let _alone = alone;
            artifacts.append_alone(upload, offset, bytes).await
        })
        .await
    }

    async fn append_alone(
        &self,
        upload: Upload,
        offset: u64,
        bytes: Bytes,
    ) -> Result<u64, ArtifactError> {
        let (digest, uploader) = &upload;
        if let Some(size) = self.size(digest) {
            return Ok(size);
        }
        // It may have been dropped, or begun anew, since the writer was looked for.
        let size_bytes = self.announced(&upload)?;
        let stands = self.offset(uploader, *digest).await?;
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
        let path = files.part(digest, size_bytes, uploader);
        let part = path.clone();
        let done = blocking(move || files.append(&part, offset, &bytes)).await;
        self.note(done)?;
        match end == size_bytes {
            true => self.complete(&upload, size_bytes, path).await?,
            false => {
                if let Some(part) = self.index().parts.0.get_mut(&upload) {
                    part.touched = SystemTime::now();
                }
            }
        }
        Ok(self.size(digest).unwrap_or(end))
    }

    /// Makes an upload that has all its bytes an artifact, or drops it because it is another one.
    async fn complete(
        &self,
        upload: &Upload,
        size_bytes: u64,
        part: std::path::PathBuf,
    ) -> Result<(), ArtifactError> {
        let _alone = self.0.completing.lock().await;
        let (files, digest) = (self.0.files.clone(), upload.0);
        let is_here = self.size(&digest).is_some();
        let done = blocking(move || match is_here {
            true => files.remove(&part),
            false => files.complete_part(&digest, &part),
        })
        .await;
        let done = self.note(done);
        let mut index = self.index();
        if done.is_ok() {
            // Of one that was here already this uploader may have announced another size.
            index.complete.entry(digest).or_insert(size_bytes);
        }
        let stays = matches!(
            done,
            Err(ArtifactError::Io { .. } | ArtifactError::Unsynced { .. })
        );
        if !stays {
            index.parts.0.remove(upload);
        }
        done
    }
}

#[cfg(test)]
mod tests;
