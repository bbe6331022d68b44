//! Durable changes of files: what these functions did survives a crash after they returned.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file's content, or makes the file.
///
/// Writes a new file beside it (extension `new`), syncs it, renames it, and syncs the directory. A
/// crash at any point leaves the old content whole or the new content whole. Two writers of the
/// same path must exclude each other.
///
/// # Errors
/// The first step that failed; the old content is still there then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&beside, path)
}

/// Renames a file within its directory and syncs the directory.
///
/// # Errors
/// The rename, or the sync after it: then the new name may be lost in a crash.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Syncs the directory that holds the path: files made, renamed or deleted there stay so.
///
/// # Errors
/// Opening or syncing the directory.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
