//! Snapshots as directories: the state machine builds them, consensus keeps them and sends them
//! file by file.
//!
//! The snapshot directory has
//! - `snapshot-<name>/`: `data/` as the state machine built it, and `meta`, written last and
//!   synced, so that a directory without it remains from an interruption;
//! - `building/`: the same, while it is being made and sealed; `adopting/`: the same, while a
//!   snapshot of another directory is copied;
//! - `incoming-<hash of the manifest>/`: `data/` as far as it was received from another node. It
//!   outlives a restart, so that a transfer continues where it stopped.

mod fetch;
pub(crate) mod message;
mod receive;
mod send;
mod space;
mod store;
#[cfg(test)]
mod tests;
mod throttle;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) use self::fetch::fetch_snapshot;
use self::message::{FileInfo, Manifest};
pub use self::receive::SnapshotTransfer;
pub(crate) use self::receive::{ReceiveError, ReceivedSnapshot, SnapshotReceiver, TransferStep};
pub(crate) use self::send::{SendError, SnapshotSender, read_at};
pub use self::space::FreeBytes;
pub(crate) use self::space::SnapshotSpace;
pub(crate) use self::store::SnapshotStore;
pub(crate) use self::throttle::SnapshotThrottle;
use crate::types::SnapshotMeta;

const DATA: &str = "data";
const META: &str = "meta";

/// Files of one snapshot. RocksDB makes table files of 64 MiB and more, so this is over 6 TiB.
const FILES_MAX: usize = 10_000;
/// Bytes of a file name.
const NAME_BYTES_MAX: usize = 200;
/// Bytes that are read at once for hashing.
const READ_BYTES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Machine(#[from] crate::Fatal),
    #[error("snapshot {}: {what}", path.display())]
    Malformed { path: PathBuf, what: String },
}

impl SnapshotError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// A snapshot on disk. Its directory is removed with the last handle, once it is obsolete.
#[derive(Debug)]
pub struct SnapshotDir {
    path: PathBuf,
    obsolete: AtomicBool,
    manifest: Mutex<Option<Arc<Manifest>>>,
}

impl SnapshotDir {
    fn new(path: PathBuf, obsolete: bool) -> Arc<Self> {
        Arc::new(Self {
            path,
            obsolete: AtomicBool::new(obsolete),
            manifest: Mutex::default(),
        })
    }

    /// The directory of the state machine's files.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    fn set_obsolete(&self) {
        self.obsolete.store(true, Ordering::Relaxed);
    }

    /// Keeps the directory when the last handle is dropped. An installation that failed needs the
    /// image again at the next start of the node.
    pub(crate) fn keep(&self) {
        self.obsolete.store(false, Ordering::Relaxed);
    }

    /// The manifest, by which another node receives the snapshot. Reads every file the first time.
    pub(crate) fn manifest(&self, meta: &SnapshotMeta) -> Result<Arc<Manifest>, SnapshotError> {
        let mut known = self
            .manifest
            .lock()
            .expect("no code panics while it holds this lock");
        if let Some(manifest) = &*known {
            return Ok(manifest.clone());
        }
        let files = list(&self.data())?;
        let manifest = Arc::new(Manifest {
            meta: meta.clone(),
            files,
        });
        *known = Some(manifest.clone());
        Ok(manifest)
    }
}

impl Drop for SnapshotDir {
    fn drop(&mut self) {
        if !self.obsolete.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = remove(&self.path) {
            // It only takes space; the next start removes it.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old snapshot stays"
            );
        }
    }
}

fn remove(path: &Path) -> Result<(), SnapshotError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SnapshotError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes the names in a directory durable.
fn sync_dir(path: &Path) -> Result<(), SnapshotError> {
    fs::File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(SnapshotError::io("sync directory", path))
}

/// True if a name has no meaning to any file system.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(plain)
}

/// The files of a snapshot in the order of their names, with size and hash.
fn list(data: &Path) -> Result<Vec<FileInfo>, SnapshotError> {
    let malformed = |what: String| SnapshotError::Malformed {
        path: data.to_owned(),
        what,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(data).map_err(SnapshotError::io("list", data))? {
        let entry = entry.map_err(SnapshotError::io("list", data))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry
            .metadata()
            .map_err(SnapshotError::io("look at", &entry.path()))?;
        if !is_plain(&name) || !metadata.is_file() {
            return Err(malformed(format!("{name} is not a plain file")));
        }
        if files.len() == FILES_MAX {
            return Err(malformed(format!("more than {FILES_MAX} files")));
        }
        let hash = hash_file(&entry.path())?;
        files.push(FileInfo {
            name,
            bytes: metadata.len(),
            hash,
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn hash_file(path: &Path) -> Result<[u8; 32], SnapshotError> {
    let hash = || -> io::Result<[u8; 32]> {
        let mut file = fs::File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let len = file.read(&mut buffer)?;
            if len == 0 {
                return Ok(*hasher.finalize().as_bytes());
            }
            hasher.update(&buffer[..len]);
        }
    };
    hash().map_err(SnapshotError::io("hash", path))
}
