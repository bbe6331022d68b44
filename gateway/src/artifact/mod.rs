//! The artifacts of a mesh: each is fetched once, from any node, checked while it arrives and again
//! before it is served, and kept under its digest.
//!
//! A download goes to `{digest}.part` and is taken up there after an interruption. When it is whole
//! it is synced, renamed to `{digest}`, and the directory is synced.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use lamplighter_client::{Client, ClientError};
use lamplighter_types::Hash;
use tokio::sync::Mutex as AsyncMutex;

#[cfg(test)]
mod tests;

/// Artifacts under way at once; more wait. Each holds a file and one range in memory.
const FETCHES_MAX: usize = 4;

/// Why an artifact is not there.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
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

/// Artifacts on disk.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    bytes_max: u64,
    places: tokio::sync::Semaphore,
    /// One at a time for each digest; an entry goes with its last user.
    locks: Mutex<HashMap<Hash, Arc<AsyncMutex<()>>>>,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    move |source| CacheError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

impl Cache {
    /// Opens the directory, which may be empty.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, CacheError> {
        fs::create_dir_all(dir).map_err(failed("making", dir))?;
        let places = tokio::sync::Semaphore::new(FETCHES_MAX);
        let inner = Inner {
            dir: dir.to_owned(),
            bytes_max,
            places,
            locks: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Where the artifacts are, each under its digest.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Where an artifact is or will be.
    pub fn path(&self, digest: &Hash) -> PathBuf {
        self.inner.dir.join(digest.to_string())
    }

    fn part(&self, digest: &Hash) -> PathBuf {
        self.inner.dir.join(format!("{digest}.part"))
    }

    /// Makes sure that the artifact is here with the right bytes, and gives its file. `in_use` is
    /// not removed to make room.
    ///
    /// # Errors
    /// No node gives it, no room, or the disk fails.
    pub async fn ensure(
        &self,
        client: &Client,
        digest: Hash,
        size_bytes: u64,
        in_use: Vec<Hash>,
    ) -> Result<PathBuf, CacheError> {
        let lock = self.lock(digest);
        let result = {
            let _one = lock.lock().await;
            self.ensure_alone(client, digest, size_bytes, in_use).await
        };
        self.unlock(digest, lock);
        result
    }

    async fn ensure_alone(
        &self,
        client: &Client,
        digest: Hash,
        size_bytes: u64,
        in_use: Vec<Hash>,
    ) -> Result<PathBuf, CacheError> {
        let _place = self
            .inner
            .places
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let path = self.path(&digest);
        let this = self.clone();
        let held = blocking(move || this.is_whole(&digest, size_bytes)).await?;
        if held {
            return Ok(path);
        }
        let this = self.clone();
        blocking(move || this.make_room(size_bytes, &digest, &in_use)).await?;
        let part = self.part(&digest);
        let fetched = client
            .download(digest, size_bytes, &part, &mut |_, _| {})
            .await;
        fetched.map_err(|source| CacheError::Fetch {
            digest,
            source: Box::new(source),
        })?;
        let this = self.clone();
        blocking(move || this.publish(&digest)).await?;
        Ok(path)
    }

    /// Whether the file is here and has the digest. A damaged one is removed, to be fetched again.
    fn is_whole(&self, digest: &Hash, size_bytes: u64) -> Result<bool, CacheError> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        let (found, size) = digest_of(&mut file).map_err(failed("reading", &path))?;
        if found == *digest && size == size_bytes {
            // What is used last is evicted last.
            file.set_modified(SystemTime::now())
                .map_err(failed("touching", &path))?;
            return Ok(true);
        }
        tracing::error!(%digest, "an artifact was damaged on disk; it is fetched again");
        fs::remove_file(&path).map_err(failed("removing", &path))?;
        Ok(false)
    }

    /// A whole part becomes the artifact. The bytes were checked group by group and synced; they
    /// are read once more, so that nothing else ever gets this name.
    fn publish(&self, digest: &Hash) -> Result<(), CacheError> {
        let (part, path) = (self.part(digest), self.path(digest));
        let mut file = File::open(&part).map_err(failed("opening", &part))?;
        let (found, _) = digest_of(&mut file).map_err(failed("reading", &part))?;
        if found != *digest {
            fs::remove_file(&part).map_err(failed("removing", &part))?;
            return Err(CacheError::Digest(*digest));
        }
        fs::rename(&part, &path).map_err(failed("renaming", &part))?;
        let dir = File::open(&self.inner.dir).map_err(failed("opening", &self.inner.dir))?;
        dir.sync_all().map_err(failed("syncing", &self.inner.dir))
    }

    /// Removes what was not used for longest, until there is room.
    fn make_room(&self, bytes: u64, keep: &Hash, in_use: &[Hash]) -> Result<(), CacheError> {
        let dir = &self.inner.dir;
        let full = CacheError::Full {
            size_bytes: bytes,
            limit: self.inner.bytes_max,
        };
        let mut files = Vec::new();
        let mut used: u64 = bytes;
        for entry in fs::read_dir(dir).map_err(failed("reading", dir))? {
            let entry = entry.map_err(failed("reading", dir))?;
            let metadata = entry.metadata().map_err(failed("reading", &entry.path()))?;
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
                    .map_err(failed("reading", &entry.path()))?;
                files.push((age, metadata.len(), entry.path()));
            }
        }
        files.sort();
        for (_, size, path) in files {
            if used <= self.inner.bytes_max {
                break;
            }
            fs::remove_file(&path).map_err(failed("removing", &path))?;
            used -= size;
        }
        if used <= self.inner.bytes_max {
            Ok(())
        } else {
            Err(full)
        }
    }

    fn lock(&self, digest: Hash) -> Arc<AsyncMutex<()>> {
        let mut locks = self
            .inner
            .locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        locks.entry(digest).or_default().clone()
    }

    fn unlock(&self, digest: Hash, lock: Arc<AsyncMutex<()>>) {
        let mut locks = self
            .inner
            .locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The map's own and ours.
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
