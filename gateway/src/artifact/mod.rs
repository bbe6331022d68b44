//! The cache of artifacts of a mesh. Each artifact is fetched once, from any node, checked while it
//! arrives and again before it is served, and kept in a file named by its digest.
//!
//! A download goes to `{digest}.part` and continues there after an interruption. Once it is
//! complete it is synced, renamed to `{digest}`, and the directory is synced.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use lamplighter_client::{Client, ClientError};
use lamplighter_system::files;
use lamplighter_types::Hash;
use tokio::sync::Mutex as AsyncMutex;

#[cfg(test)]
mod tests;

/// Artifacts fetched at once; more wait. Each has a file open and one range in memory.
const FETCHES_MAX: usize = 4;

/// Why an artifact is not available.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("fetching the artifact {digest}")]
    Fetch {
        digest: Hash,
        #[source]
        source: Box<ClientError>,
    },
    #[error("{size_bytes} bytes do not fit the cache of {limit} beside what is in use")]
    Full { size_bytes: u64, limit: u64 },
    #[error("the downloaded file does not have the digest {0}")]
    Digest(Hash),
    #[error("the task that read the disk ended badly")]
    Task(#[source] tokio::task::JoinError),
}

/// The artifacts on disk. Clones share them.
#[derive(Clone, Debug)]
pub struct ArtifactCache {
    shared: Arc<SharedCache>,
}

#[derive(Debug)]
struct SharedCache {
    dir: PathBuf,
    bytes_max: u64,
    fetch_permits: tokio::sync::Semaphore,
    /// One lock for each digest in use; its last user removes it.
    locks: Mutex<HashMap<Hash, Arc<AsyncMutex<()>>>>,
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    move |source| CacheError::File {
        operation,
        path: path.to_owned(),
        source,
    }
}

impl ArtifactCache {
    /// Opens the directory, which may be empty.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, CacheError> {
        fs::create_dir_all(dir).map_err(file_error("making", dir))?;
        let fetch_permits = tokio::sync::Semaphore::new(FETCHES_MAX);
        let shared = SharedCache {
            dir: dir.to_owned(),
            bytes_max,
            fetch_permits,
            locks: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The directory of the artifacts, each in a file named by its digest.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The file of an artifact, which may not exist yet.
    pub fn path(&self, digest: &Hash) -> PathBuf {
        self.shared.dir.join(digest.to_string())
    }

    /// The file of an unfinished download.
    fn part_path(&self, digest: &Hash) -> PathBuf {
        self.shared.dir.join(format!("{digest}.part"))
    }

    /// Makes sure that the artifact is in the cache with the right bytes, and returns its file. The
    /// artifacts `in_use` are not evicted for it.
    ///
    /// # Errors
    /// No node has it, there is no space, or the disk fails.
    pub async fn ensure(
        &self,
        client: &Client,
        digest: Hash,
        size_bytes: u64,
        in_use: Vec<Hash>,
    ) -> Result<PathBuf, CacheError> {
        let lock = self.lock(digest);
        let result = {
            let _guard = lock.lock().await;
            self.ensure_locked(client, digest, size_bytes, in_use).await
        };
        self.unlock(digest, lock);
        result
    }

    async fn ensure_locked(
        &self,
        client: &Client,
        digest: Hash,
        size_bytes: u64,
        in_use: Vec<Hash>,
    ) -> Result<PathBuf, CacheError> {
        let _permit = self
            .shared
            .fetch_permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let path = self.path(&digest);
        let this = self.clone();
        let is_cached = blocking(move || this.is_intact(&digest, size_bytes)).await?;
        if is_cached {
            return Ok(path);
        }
        let this = self.clone();
        blocking(move || this.evict_for(size_bytes, &digest, &in_use)).await?;
        let part = self.part_path(&digest);
        let fetched = client
            .download(digest, size_bytes, &part, &mut |_, _| {})
            .await;
        fetched.map_err(|source| CacheError::Fetch {
            digest,
            source: Box::new(source),
        })?;
        let this = self.clone();
        blocking(move || this.complete(&digest)).await?;
        Ok(path)
    }

    /// True if the file exists and has the digest. A damaged one is removed, to be fetched again.
    fn is_intact(&self, digest: &Hash, size_bytes: u64) -> Result<bool, CacheError> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(file_error("opening", &path)(error)),
        };
        let (found, size) = digest_of(&mut file).map_err(file_error("reading", &path))?;
        if found == *digest && size == size_bytes {
            // The artifact that was used last is evicted last.
            file.set_modified(SystemTime::now())
                .map_err(file_error("touching", &path))?;
            return Ok(true);
        }
        tracing::error!(%digest, "an artifact was damaged on disk; it is fetched again");
        fs::remove_file(&path).map_err(file_error("removing", &path))?;
        Ok(false)
    }

    /// Turns a complete download into the artifact. The bytes were checked group by group and
    /// synced; they are read once more, so that no other bytes ever get this name.
    fn complete(&self, digest: &Hash) -> Result<(), CacheError> {
        let (part, path) = (self.part_path(digest), self.path(digest));
        let mut file = File::open(&part).map_err(file_error("opening", &part))?;
        let (found, _) = digest_of(&mut file).map_err(file_error("reading", &part))?;
        if found != *digest {
            fs::remove_file(&part).map_err(file_error("removing", &part))?;
            return Err(CacheError::Digest(*digest));
        }
        files::rename(&part, &path).map_err(file_error("renaming", &part))
    }

    /// Removes the artifacts that were not used for longest, until there is space for `bytes`.
    fn evict_for(&self, bytes: u64, keep: &Hash, in_use: &[Hash]) -> Result<(), CacheError> {
        let dir = &self.shared.dir;
        let full = CacheError::Full {
            size_bytes: bytes,
            limit: self.shared.bytes_max,
        };
        let mut candidates = Vec::new();
        let mut used: u64 = bytes;
        for entry in fs::read_dir(dir).map_err(file_error("reading", dir))? {
            let entry = entry.map_err(file_error("reading", dir))?;
            let metadata = entry
                .metadata()
                .map_err(file_error("reading", &entry.path()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name
                .strip_suffix(".part")
                .unwrap_or(&name)
                .parse::<Hash>()
                .ok();
            if digest == Some(*keep) {
                continue;
            }
            used += metadata.len();
            if !digest.is_some_and(|digest| in_use.contains(&digest)) {
                let age = metadata
                    .modified()
                    .map_err(file_error("reading", &entry.path()))?;
                candidates.push((age, metadata.len(), entry.path()));
            }
        }
        candidates.sort();
        for (_, size, path) in candidates {
            if used <= self.shared.bytes_max {
                break;
            }
            fs::remove_file(&path).map_err(file_error("removing", &path))?;
            used -= size;
        }
        if used > self.shared.bytes_max {
            return Err(full);
        }
        Ok(())
    }

    fn lock(&self, digest: Hash) -> Arc<AsyncMutex<()>> {
        let mut locks = self
            .shared
            .locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        locks.entry(digest).or_default().clone()
    }

    fn unlock(&self, digest: Hash, lock: Arc<AsyncMutex<()>>) {
        let mut locks = self
            .shared
            .locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One in the map, and this one.
        if Arc::strong_count(&lock) <= 2 {
            locks.remove(&digest);
        }
    }
}

fn digest_of(file: &mut File) -> io::Result<(Hash, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((Hash(*hasher.finalize().as_bytes()), size));
        }
        size += read as u64;
        hasher.update(&buffer[..read]);
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(CacheError::Task)?
}
