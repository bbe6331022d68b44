//! The packages that Things fetch from the gateway: verified artifacts, each under a short name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lamplighter_types::Hash;

/// The path below which packages are.
pub(super) const PATH: &str = "fw";
/// Digits of a name: the first of the digest. A Thing checks what it fetches, and each request for
/// a block carries the name.
const NAME_DIGITS: usize = 16;
/// Digits of a digest, the name of its file.
const DIGEST_DIGITS: usize = 64;
/// Files that are kept open.
const OPEN_MAX: usize = 16;

/// A package that is being fetched.
#[derive(Debug, Clone)]
pub(super) struct Package {
    file: Arc<File>,
    pub(super) size_bytes: u64,
}

impl Package {
    /// Reads up to `length` bytes at an offset. Blocks on the disk.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = self.size_bytes.saturating_sub(offset).min(length as u64) as usize;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map(|()| bytes)
    }
}

/// The packages of a directory of artifacts; clones share the open files.
#[derive(Debug, Clone)]
pub(super) struct Packages {
    directory: PathBuf,
    open: Arc<Mutex<BTreeMap<String, Package>>>,
}

impl Packages {
    pub(super) fn new(directory: PathBuf) -> Packages {
        Packages {
            directory,
            open: Arc::default(),
        }
    }

    /// The name of an artifact.
    pub(super) fn name(artifact: &Hash) -> String {
        artifact.to_string()[..NAME_DIGITS].to_owned()
    }

    /// The package of a name; `None` if there is none. Blocks on the disk.
    pub(super) fn find(&self, name: &str) -> io::Result<Option<Package>> {
        let is_name = name.len() == NAME_DIGITS
            && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_name {
            return Ok(None);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(package) = open.get(name) {
            return Ok(Some(package.clone()));
        }
        let Some(path) = find_file(&self.directory, name)? else {
            return Ok(None);
        };
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let file = Arc::new(file);
        let package = Package { file, size_bytes };
        if open.len() >= OPEN_MAX {
            open.pop_first();
        }
        open.insert(name.to_owned(), package.clone());
        Ok(Some(package))
    }
}

fn find_file(directory: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let found = entry.file_name();
        let found = found.to_str().unwrap_or_default();
        // Not one that is still being fetched, whose name ends with `.part`.
        if found.len() == DIGEST_DIGITS && found.starts_with(name) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}
