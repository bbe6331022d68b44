//! The directory of a Thing. Files that must survive a power cut are replaced atomically.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lamplighter_system::files;
use lamplighter_types::Hash;

use super::ThingError;
use super::state::Slot;

/// The files of one Thing.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub(super) fn open(directory: &Path) -> Result<Disk, ThingError> {
        fs::create_dir_all(directory).map_err(failed("creating", directory))?;
        Ok(Disk {
            directory: directory.to_owned(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The content of a file; `None` if there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ThingError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("reading", &path)(error)),
        }
    }

    /// Replaces a file, all or nothing.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ThingError> {
        let path = self.path(name);
        files::replace(&path, bytes).map_err(failed("writing", &path))
    }

    /// Writes into a file at an offset; with `sync` it is durable.
    pub(super) fn write_at(
        &self,
        name: &str,
        offset: u64,
        bytes: &[u8],
        sync: bool,
    ) -> Result<(), ThingError> {
        let path = self.path(name);
        let write = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            file.write_all_at(bytes, offset)?;
            if sync { file.sync_data() } else { Ok(()) }
        };
        write().map_err(failed("writing", &path))
    }

    /// Reads bytes of a file at an offset.
    pub(super) fn read_at(
        &self,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, ThingError> {
        let path = self.path(name);
        let read = || {
            let mut bytes = vec![0; length];
            File::open(&path)?.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        read().map_err(failed("reading", &path))
    }

    /// Makes the bytes of a file durable, if there is one.
    pub(super) fn sync(&self, name: &str) -> Result<(), ThingError> {
        let path = self.path(name);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened
                .and_then(|file| file.sync_data())
                .map_err(failed("writing", &path)),
        }
    }

    /// Cuts a file.
    pub(super) fn truncate(&self, name: &str, bytes: u64) -> Result<(), ThingError> {
        let path = self.path(name);
        let cut = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(bytes)?;
            file.sync_data()
        };
        match self.size(name) > bytes {
            true => cut().map_err(failed("writing", &path)),
            false => Ok(()),
        }
    }

    /// Size of a file; 0 if there is none.
    pub(super) fn size(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).map_or(0, |data| data.len())
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), ThingError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Digest and size of a file, read in pieces.
    pub(super) fn digest(&self, name: &str) -> Result<(Hash, u64), ThingError> {
        let path = self.path(name);
        let hash = || {
            let mut file = File::open(&path)?;
            let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
            let mut piece = vec![0; 64 * 1024];
            loop {
                let count = file.read(&mut piece)?;
                if count == 0 {
                    return Ok((Hash(*hasher.finalize().as_bytes()), size));
                }
                hasher.update(&piece[..count]);
                size += count as u64;
            }
        };
        hash().map_err(failed("reading", &path))
    }

    /// Copies the complete package into a slot and makes it durable.
    pub(super) fn copy_to_slot(&self, package: &str, slot: Slot) -> Result<(), ThingError> {
        let path = self.path(slot.file());
        let copy = || {
            let mut from = File::open(self.path(package))?;
            let mut to = File::create(&path)?;
            io::copy(&mut from, &mut to)?;
            to.sync_all()?;
            files::sync_parent(&path)
        };
        copy().map_err(failed("writing", &path))
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ThingError {
    let path = path.to_owned();
    move |source| ThingError::Disk {
        operation,
        path,
        source,
    }
}
