//! The folders and files of a devnet.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lamplighter_types::Hash;
use serde::Serialize;

use crate::DevnetError;
use crate::thing::SLOT_BYTES_MAX;

/// The file that marks a folder as a devnet's, which may be emptied.
const MARKER: &str = ".lamplighter-devnet";
/// Size of the generated image.
const IMAGE_BYTES: usize = 48 * 1024;

/// The paths of a devnet.
#[derive(Clone, Debug)]
pub struct Files {
    pub root: PathBuf,
}

impl Files {
    /// Prepares an empty folder; the folder of an earlier devnet is emptied.
    pub fn prepare(root: &Path) -> Result<Self, DevnetError> {
        fs::create_dir_all(root).map_err(DevnetError::file("making", root))?;
        let root = root
            .canonicalize()
            .map_err(DevnetError::file("finding", root))?;
        let files = Self { root };
        let marker = files.root.join(MARKER);
        let entries: Vec<_> = fs::read_dir(&files.root)
            .and_then(Iterator::collect)
            .map_err(DevnetError::file("reading", &files.root))?;
        if !entries.is_empty() && !marker.exists() {
            return Err(DevnetError::NotADevnet(files.root));
        }
        fs::write(&marker, "").map_err(DevnetError::file("writing", &marker))?;
        for entry in entries.iter().filter(|entry| entry.path() != marker) {
            let path = entry.path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(DevnetError::file("removing", &path))?;
        }
        for folder in [files.keys(), files.logs()] {
            fs::create_dir_all(&folder).map_err(DevnetError::file("making", &folder))?;
        }
        Ok(files)
    }

    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.key"))
    }

    pub fn genesis(&self) -> PathBuf {
        self.root.join("genesis.json")
    }

    /// Writes a configuration file and returns its path.
    pub fn write_toml(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, DevnetError> {
        let text = toml::to_string_pretty(value).expect("configurations have TOML forms");
        self.write(&format!("{name}.toml"), text.as_bytes())
    }

    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, DevnetError> {
        let bytes = serde_json::to_vec_pretty(value).expect("our types have JSON forms");
        self.write(name, &bytes)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, DevnetError> {
        let path = self.root.join(name);
        fs::write(&path, bytes).map_err(DevnetError::file("writing", &path))?;
        Ok(path)
    }

    /// Writes a file that only its owner may read, and returns its path.
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, DevnetError> {
        let path = self.write(name, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(DevnetError::file("protecting", &path))?;
        Ok(path)
    }

    /// The image to roll out: this file, or a generated one.
    pub fn firmware(&self, image: Option<&Path>) -> Result<(PathBuf, Vec<u8>), DevnetError> {
        let path = match image {
            Some(path) => path.to_owned(),
            None => self.write(
                "lamp-firmware-1.1.0.bin",
                &synthetic_image("lamp firmware 1.1.0"),
            )?,
        };
        let image = fs::read(&path).map_err(DevnetError::file("reading", &path))?;
        let bytes = image.len() as u64;
        if bytes == 0 || bytes > SLOT_BYTES_MAX {
            return Err(DevnetError::Firmware {
                path,
                bytes,
                most: SLOT_BYTES_MAX,
            });
        }
        Ok((path, image))
    }
}

/// Random bytes in place of an image; the same at each run.
pub(crate) fn synthetic_image(seed: &str) -> Vec<u8> {
    let mut image = vec![0; IMAGE_BYTES];
    blake3::Hasher::new()
        .update(&Hash::of(seed.as_bytes()).0)
        .finalize_xof()
        .fill(&mut image);
    image
}
