//! The comparison of a store with its seal, at the opening.

use std::fs;
use std::io;
use std::path::Path;

use lamplighter_store::StoreError;

use super::digests::FileDigests;
use super::files::{self, Stored, folder, log_number, manifest_number};
use super::writer::{DURABLE, NOW};
use crate::damage::Damage;

/// The sealed files with their digests, from both seal files: each of them is true, and neither
/// need be the newer one.
type Sealed = Vec<(String, FileDigests)>;

/// Why a store must not be opened as it is.
pub(crate) enum Problem {
    Damage(Damage),
    Store(StoreError),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Damage> for Problem {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// Compares a closed store with its seal.
pub(crate) fn check(dir: &Path) -> Result<(), Problem> {
    let names = match files::names(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(StoreError::io("list", dir)(error).into()),
    };
    let sealed = read(dir)?;
    if let Some(current) = current(dir, &names, sealed.is_some())? {
        compare(dir, &names, &sealed.unwrap_or_default(), current)?;
    }
    Ok(())
}

/// Reads the seal, if there is one.
fn read(dir: &Path) -> Result<Option<Sealed>, StoreError> {
    let folder = folder(dir);
    let mut sealed: Option<Sealed> = None;
    for name in [DURABLE, NOW] {
        let path = folder.join(name);
        match files::read(&path)? {
            Stored::Missing => {}
            // Torn by a cut of the power; the other one never is.
            Stored::Malformed if name == NOW => {}
            Stored::Malformed => {
                tracing::error!(path = %path.display(), "damaged; it is written again");
            }
            Stored::Lines(lines) => {
                let parsed = lines.iter().filter_map(|line| {
                    let (name, digests) = line.split_once(' ')?;
                    Some((name.to_owned(), FileDigests::from_line(digests)?))
                });
                sealed.get_or_insert_default().extend(parsed);
            }
        }
    }
    Ok(sealed)
}

/// The number of the manifest that is in force; none for a store that is yet to be made.
fn current(dir: &Path, names: &[String], was_sealed: bool) -> Result<Option<u64>, Problem> {
    let path = dir.join("CURRENT");
    let damaged = |offset: u64, what: &str| Damage::new(&path, offset, what);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // RocksDB would begin an empty store here, and delete the tables.
            let is_store =
                |name: &String| name.ends_with(".sst") || manifest_number(name).is_some();
            if was_sealed || names.iter().any(is_store) {
                return Err(damaged(0, "it is missing").into());
            }
            return Ok(None);
        }
        Err(error) => return Err(StoreError::io("read", &path)(error).into()),
    };
    let text = String::from_utf8_lossy(&text);
    let number = text.strip_suffix('\n').and_then(manifest_number);
    let Some(number) = number else {
        return Err(damaged(0, "it does not name a manifest").into());
    };
    let named = text.trim_end();
    if !names.iter().any(|name| name == named) {
        return Err(damaged(0, &format!("it names {named}, which is not there")).into());
    }
    Ok(Some(number))
}

fn compare(dir: &Path, names: &[String], sealed: &Sealed, current: u64) -> Result<(), Problem> {
    let newest = |of: fn(&str) -> Option<u64>| {
        let numbers = names.iter().filter_map(|name| of(name));
        numbers.max()
    };
    for (name, digests) in sealed {
        let path = dir.join(name);
        if let Some(number) = manifest_number(name) {
            if current > number {
                continue;
            }
            if current < number {
                let what = format!("it names an older manifest than {name}");
                return Err(Damage::new(&dir.join("CURRENT"), 0, &what).into());
            }
        } else if !names.contains(name) {
            // What a log had is in tables by now, unless no newer log was begun.
            if newest(log_number) < log_number(name) {
                return Err(Damage::new(&path, 0, "it is missing").into());
            }
            continue;
        }
        let found = digests.compare_all(&path);
        if let Some(mismatch) = found.map_err(StoreError::io("read", &path))? {
            return Err(Damage::bytes(&path, mismatch, None).into());
        }
    }
    Ok(())
}
