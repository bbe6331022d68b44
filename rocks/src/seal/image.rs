//! Digests of images of a store ([`lamplighter_store::Kv::checkpoint`]), which other nodes get.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lamplighter_store::StoreError;

use super::files::{self, Stored, folder};
use super::prints::Prints;
use super::tables;
use crate::damage::Damage;

const NOTE: &str = "image-";

/// Files of an image with their digests.
pub(crate) type Noted = Vec<(String, Prints)>;

fn note_path(dir: &Path, image: &Path) -> PathBuf {
    // The folder above the files has the image's own name.
    let parent = image.parent().and_then(Path::file_name).unwrap_or_default();
    folder(dir).join(format!("{NOTE}{}", parent.to_string_lossy()))
}

/// What was noted of an image when it was seen first. Its tables are those of the store, so that
/// what is known of them is taken over; only the rest is read for the note.
pub(crate) fn noted(dir: &Path, image: &Path) -> Result<Noted, StoreError> {
    let path = note_path(dir, image);
    if let Stored::Lines(lines) = files::read(&path)?
        && let Some(noted) = parse(&lines)
    {
        return Ok(noted);
    }
    let noted = take(dir, image)?;
    let lines = noted.iter();
    let lines: Vec<_> = lines
        .map(|(name, prints)| format!("{name} {}", prints.to_line()))
        .collect();
    files::replace(&path, &lines).map_err(StoreError::io("write", &path))?;
    Ok(noted)
}

fn parse(lines: &[String]) -> Option<Noted> {
    let parsed = lines.iter().map(|line| {
        let (name, prints) = line.split_once(' ')?;
        Some((name.to_owned(), Prints::from_line(prints)?))
    });
    parsed.collect()
}

fn take(dir: &Path, image: &Path) -> Result<Noted, StoreError> {
    let names = files::names(image).map_err(StoreError::io("list", image))?;
    let mut noted = Noted::new();
    for name in names {
        let known = tables::known(dir, &name)?.map(|known| known.prints);
        let path = image.join(&name);
        let prints = match known {
            Some(prints) => prints,
            None => Prints::of(&path).map_err(StoreError::io("read", &path))?,
        };
        noted.push((name, prints));
    }
    Ok(noted)
}

/// Compares one file of an image.
pub(crate) fn compare(path: &Path, prints: &Prints) -> Result<Option<Damage>, StoreError> {
    match prints.compare_all(path) {
        Ok(mismatch) => Ok(mismatch.map(|mismatch| Damage::bytes(path, mismatch, None))),
        // The image was replaced by a newer one meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// Forgets the notes of images that are gone.
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
