//! Digests of images of a store ([`lamplighter_store::Kv::checkpoint`]), which other nodes get.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lamplighter_store::StoreError;

use super::digests::FileDigests;
use super::files::{self, Stored, folder};
use super::tables;
use crate::damage::Damage;

const NOTE: &str = "image-";

/// Files of an image with their digests.
pub(crate) type ImageDigests = Vec<(String, FileDigests)>;

fn note_path(dir: &Path, image: &Path) -> PathBuf {
    // The folder above the files has the image's own name.
    let parent = image.parent().and_then(Path::file_name).unwrap_or_default();
    folder(dir).join(format!("{NOTE}{}", parent.to_string_lossy()))
}

/// The digests of an image, recorded when it was seen first. Its tables are those of the store, so
/// their recorded digests are reused; only the other files are read.
pub(crate) fn recorded(dir: &Path, image: &Path) -> Result<ImageDigests, StoreError> {
    let path = note_path(dir, image);
    if let Stored::Lines(lines) = files::read(&path)?
        && let Some(recorded) = parse(&lines)
    {
        return Ok(recorded);
    }
    let recorded = digest_files(dir, image)?;
    let lines = recorded.iter();
    let lines: Vec<_> = lines
        .map(|(name, digests)| format!("{name} {}", digests.to_line()))
        .collect();
    files::replace(&path, &lines).map_err(StoreError::io("write", &path))?;
    Ok(recorded)
}

fn parse(lines: &[String]) -> Option<ImageDigests> {
    let parsed = lines.iter().map(|line| {
        let (name, digests) = line.split_once(' ')?;
        Some((name.to_owned(), FileDigests::from_line(digests)?))
    });
    parsed.collect()
}

fn digest_files(dir: &Path, image: &Path) -> Result<ImageDigests, StoreError> {
    let names = files::names(image).map_err(StoreError::io("list", image))?;
    let mut recorded = ImageDigests::new();
    for name in names {
        let of_table = tables::recorded(dir, &name)?.map(|table| table.digests);
        let path = image.join(&name);
        let digests = match of_table {
            Some(digests) => digests,
            None => FileDigests::of(&path).map_err(StoreError::io("read", &path))?,
        };
        recorded.push((name, digests));
    }
    Ok(recorded)
}

/// Compares one file of an image.
pub(crate) fn compare(path: &Path, digests: &FileDigests) -> Result<Option<Damage>, StoreError> {
    match digests.compare_all(path) {
        Ok(mismatch) => Ok(mismatch.map(|mismatch| Damage::bytes(path, mismatch, None))),
        // The image was replaced by a newer one meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// Removes the digests of images that are not in use any more.
pub(crate) fn forget(dir: &Path, images: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
    let folder = folder(dir);
    let kept: BTreeSet<_> = images.iter().map(|image| note_path(dir, image)).collect();
    for name in files::names(&folder).map_err(StoreError::io("list", &folder))? {
        let path = folder.join(&name);
        if name.starts_with(NOTE) && !kept.contains(&path) {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}
