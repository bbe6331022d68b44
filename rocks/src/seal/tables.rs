//! Digests of table files, each in a file of the seal with the column family of the table.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use lamplighter_store::{Cf, StoreError};

use super::digests::{FileDigests, PIECE_BYTES};
use super::files::{self, Stored, folder};
use crate::damage::Damage;

/// The file that names the damage, for the next opening.
const MARK: &str = "damaged";
/// In a mark: something is damaged, and it is not known what.
const UNKNOWN: &str = "?";

/// A table file with its recorded digests.
pub(crate) struct RecordedTable {
    pub family: Cf,
    pub digests: FileDigests,
}

/// A table file that the store uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    /// The file name, for example `000012.sst`.
    pub name: String,
    pub family: &'static str,
}

fn family(name: &str) -> Option<Cf> {
    Cf::ALL.into_iter().find(|cf| cf.name() == name)
}

/// The recorded digests of a table. None if nothing was recorded or the record is damaged; then it
/// is made again.
pub(crate) fn recorded(dir: &Path, table: &str) -> Result<Option<RecordedTable>, StoreError> {
    let path = folder(dir).join(table);
    let lines = match files::read(&path)? {
        Stored::Missing => return Ok(None),
        Stored::Malformed => {
            tracing::error!(path = %path.display(), "damaged; it is written again");
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            return Ok(None);
        }
        Stored::Lines(lines) => lines,
    };
    let parsed = lines.first().and_then(|line| {
        let (name, digests) = line.split_once(' ')?;
        Some(RecordedTable {
            family: family(name)?,
            digests: FileDigests::from_line(digests)?,
        })
    });
    Ok(parsed)
}

/// Records the digests of new tables, and removes those of deleted tables.
pub(crate) fn record(dir: &Path, live: &BTreeSet<Table>) -> Result<(), StoreError> {
    let folder = folder(dir);
    let recorded = files::names(&folder).map_err(StoreError::io("list", &folder))?;
    for table in live.iter().filter(|table| !recorded.contains(&table.name)) {
        let path = dir.join(&table.name);
        let digests = match FileDigests::of(&path) {
            Ok(digests) => digests,
            // Compacted away meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let line = format!("{} {}", table.family, digests.to_line());
        let record = folder.join(&table.name);
        files::replace(&record, &[line]).map_err(StoreError::io("write", &record))?;
    }
    let is_unused =
        |name: &&String| name.ends_with(".sst") && !live.iter().any(|table| table.name == **name);
    for name in recorded.iter().filter(is_unused) {
        remove(&folder.join(name))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Compares a part of a table with its recorded digests.
pub(crate) fn compare(
    dir: &Path,
    table: &str,
    recorded: &RecordedTable,
    first: u64,
    most: u64,
) -> Result<Option<Damage>, StoreError> {
    let path = dir.join(table);
    let compared = File::open(&path).and_then(|file| recorded.digests.compare(&file, first, most));
    match compared {
        Ok(mismatch) => Ok(mismatch.map(|at| Damage::bytes(&path, at, Some(recorded.family)))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // A bad sector: the disk itself found it.
        Err(error) if error.raw_os_error() == Some(EIO) => Ok(Some(Damage {
            family: Some(recorded.family),
            ..Damage::new(&path, first * PIECE_BYTES, &error.to_string())
        })),
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

/// `EIO` of Linux.
const EIO: i32 = 5;

/// Compares the tables with recorded digests whose family passes the filter `of`.
fn compare_noted(dir: &Path, of: impl Fn(Cf) -> bool) -> Result<Option<Damage>, StoreError> {
    let folder = folder(dir);
    let mut names = match files::names(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names.map_err(StoreError::io("list", &folder))?,
    };
    names.sort();
    for name in names.iter().filter(|name| name.ends_with(".sst")) {
        let Some(recorded) = recorded(dir, name)? else {
            continue;
        };
        if of(recorded.family)
            && let Some(damage) = compare(dir, name, &recorded, 0, u64::MAX)?
        {
            return Ok(Some(damage));
        }
    }
    Ok(None)
}

/// The check before a store is opened: damage that a read or the scrubber found, and the tables
/// with this node's own promises, which are small.
pub(crate) fn check(dir: &Path) -> Result<Option<Damage>, StoreError> {
    match marked(dir)? {
        Some(Marked::Damage(damage)) => return Ok(Some(damage)),
        Some(Marked::Unknown) => {
            if let Some(damage) = compare_noted(dir, |_| true)? {
                return Ok(Some(damage));
            }
            unmark(dir)?;
        }
        None => {}
    }
    compare_noted(dir, |family| !family.is_shared())
}

enum Marked {
    Damage(Damage),
    Unknown,
}

fn mark_path(dir: &Path) -> PathBuf {
    folder(dir).join(MARK)
}

fn marked(dir: &Path) -> Result<Option<Marked>, StoreError> {
    let lines = match files::read(&mark_path(dir))? {
        Stored::Missing => return Ok(None),
        Stored::Malformed => return Ok(Some(Marked::Unknown)),
        Stored::Lines(lines) => lines,
    };
    let parsed = (|| {
        let [name, offset, of, what] = lines.as_slice() else {
            return None;
        };
        let damage = Damage::new(&dir.join(name), offset.parse().ok()?, what);
        Some(Damage {
            family: family(of),
            ..damage
        })
    })();
    Ok(Some(parsed.map_or(Marked::Unknown, Marked::Damage)))
}

/// Records damage until it is repaired.
pub(crate) fn mark(dir: &Path, damage: Option<&Damage>) -> Result<(), StoreError> {
    let lines = match damage {
        None => vec![UNKNOWN.to_owned()],
        Some(damage) => vec![
            damage
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            damage.offset.to_string(),
            damage.family.map_or("", Cf::name).to_owned(),
            damage.what.replace('\n', " "),
        ],
    };
    let path = mark_path(dir);
    files::replace(&path, &lines).map_err(StoreError::io("write", &path))
}

pub(crate) fn unmark(dir: &Path) -> Result<(), StoreError> {
    remove(&mark_path(dir))
}
