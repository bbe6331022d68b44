//! The files beside the store in which its digests are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lamplighter_store::StoreError;

/// First line of each file of the seal.
const VERSION: &str = "lamplighter-seal 1";

/// The folder of digests that belongs to a store.
pub(crate) fn folder(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".seal");
    PathBuf::from(name)
}

/// The content of a file of the seal.
pub(crate) enum Stored {
    Missing,
    /// Incomplete, or not what was written.
    Malformed,
    Lines(Vec<String>),
}

pub(crate) fn read(path: &Path) -> Result<Stored, StoreError> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Missing),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let Some((body, end)) = text.trim_end_matches('\n').rsplit_once('\n') else {
        return Ok(Stored::Malformed);
    };
    let mut lines = body.lines().map(str::to_owned);
    if end != digest(body) || lines.next().as_deref() != Some(VERSION) {
        return Ok(Stored::Malformed);
    }
    Ok(Stored::Lines(lines.collect()))
}

fn digest(body: &str) -> String {
    blake3::hash(body.as_bytes()).to_hex().to_string()
}

fn text(lines: &[String]) -> Vec<u8> {
    let body = [&[VERSION.to_owned()], lines].concat().join("\n");
    format!("{body}\n{}\n", digest(&body)).into_bytes()
}

/// Writes a file without syncing it: the end of the process leaves it, the end of the power may
/// tear it.
pub(crate) fn write(path: &Path, lines: &[String]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text(lines))?;
    fs::rename(&temporary, path)
}

/// Replaces a file durably: after a crash it is the old one or the new one, whole.
pub(crate) fn replace(path: &Path, lines: &[String]) -> io::Result<()> {
    lamplighter_system::files::replace(path, &text(lines))
}

/// The names in a folder that can be names of RocksDB's files.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// The number of a write-ahead log.
pub(crate) fn log_number(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok()
}

/// The number of a manifest.
pub(crate) fn manifest_number(name: &str) -> Option<u64> {
    name.strip_prefix("MANIFEST-")?.parse().ok()
}
