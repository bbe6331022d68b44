//! An archive in a folder: pages of certified blocks in files, as nodes send them.
//!
//! A file is named after its first block and the digest of its bytes, so that a changed file is
//! found, and a copy needs only the files that it lacks. `archive.json` says how far the archive
//! goes: without it nobody would miss the last files.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lamplighter_system::files;
use lamplighter_types::wire::{ARCHIVE_BYTES_MAX, ArchivePage, ArchivedBlock, read_archive_page};
use lamplighter_types::{Hash, codec};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const VERSION: u32 = 1;
const END_FILE: &str = "archive.json";
const SUFFIX: &str = ".blocks";
/// Digits of a height in a name: names in their order are blocks in theirs.
const HEIGHT_DIGITS: usize = 20;
/// What is put behind the name of a file with a block that an audit did not accept.
const REFUSED_SUFFIX: &str = ".refused";

/// How far an archive goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveEnd {
    version: u32,
    pub chain_id: Hash,
    /// Height of the last block, which has a certificate.
    pub height: u64,
    /// The hash of its header.
    pub header: Hash,
    /// Unix time in ms of that block.
    pub time_ms: u64,
}

/// A folder with an archive.
#[derive(Clone, Debug)]
pub struct ArchiveFolder {
    dir: PathBuf,
    chain_id: Hash,
    /// The names of the files by the height of their first block.
    names: BTreeMap<u64, String>,
    end: Option<ArchiveEnd>,
}

impl ArchiveFolder {
    /// Opens the archive of a chain for reading.
    ///
    /// # Errors
    /// There is none, or it is of another chain.
    pub fn open(dir: &Path, chain_id: Hash) -> Result<Self, Failure> {
        let folder = Self::list(dir, chain_id)?;
        match folder.end {
            Some(_) => Ok(folder),
            None => Err(Failure::plain(format!(
                "there is no archive in {}: {END_FILE} is missing",
                dir.display()
            ))),
        }
    }

    /// Opens a folder to add blocks of a chain; it may not be there yet.
    ///
    /// # Errors
    /// It has the archive of another chain, or can't be made.
    pub fn create(dir: &Path, chain_id: Hash) -> Result<Self, Failure> {
        let operation = format!("making {}", dir.display());
        fs::create_dir_all(dir).map_err(Failure::during(operation))?;
        Self::list(dir, chain_id)
    }

    fn list(dir: &Path, chain_id: Hash) -> Result<Self, Failure> {
        let reading = || Failure::during(format!("reading the archive in {}", dir.display()));
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(reading())? {
            let name = entry.map_err(reading())?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some((first, _)) = parse_name(name) {
                names.insert(first, name.to_owned());
            }
        }
        let path = dir.join(END_FILE);
        let end = match path.exists() {
            false => None,
            true => {
                let text = files::read_text(&path).map_err(reading())?;
                let end: ArchiveEnd =
                    codec::decode_json(text.as_bytes()).map_err(Failure::during(END_FILE))?;
                Some(end)
            }
        };
        if let Some(end) = &end
            && (end.chain_id != chain_id || end.version != VERSION)
        {
            let words = format!(
                "the archive in {} is of the chain {}, version {}: this is {chain_id}, {VERSION}",
                dir.display(),
                end.chain_id,
                end.version
            );
            return Err(Failure::plain(words));
        }
        Ok(Self {
            dir: dir.to_owned(),
            chain_id,
            names,
            end,
        })
    }

    pub fn end(&self) -> Option<&ArchiveEnd> {
        self.end.as_ref()
    }

    /// Some blocks from a height on, none behind the end of the archive.
    ///
    /// # Errors
    /// A file can't be read, or its bytes are not those of its name.
    pub fn blocks(&self, from: u64) -> Result<Vec<ArchivedBlock>, Failure> {
        let last = self.end.as_ref().map_or(0, |end| end.height);
        self.blocks_between(from, last)
    }

    /// Some blocks from a height on, up to another one.
    fn blocks_between(&self, from: u64, last: u64) -> Result<Vec<ArchivedBlock>, Failure> {
        let Some((_, name)) = self.names.range(..=from).next_back() else {
            return Ok(Vec::new());
        };
        let mut blocks = self.read(name)?;
        blocks.retain(|block| (from..=last).contains(&block.header.height));
        Ok(blocks)
    }

    /// Blocks that were added, from a height on, whether or not the end of the archive names them.
    ///
    /// # Errors
    /// As [`blocks`](Self::blocks).
    pub fn added_blocks(&self, from: u64) -> Result<Vec<ArchivedBlock>, Failure> {
        self.blocks_between(from, u64::MAX)
    }

    /// The height of the last block that was added; 0 if there is none.
    ///
    /// # Errors
    /// The last file is damaged.
    pub fn last_added(&self) -> Result<u64, Failure> {
        let Some((_, name)) = self.names.last_key_value() else {
            return Ok(0);
        };
        let last = self.read(name)?.last().map(|block| block.header.height);
        Ok(last.unwrap_or(0))
    }

    fn read(&self, name: &str) -> Result<Vec<ArchivedBlock>, Failure> {
        let path = self.dir.join(name);
        let damaged = || Failure::during(format!("{} is damaged", path.display()));
        let size = fs::metadata(&path).map_err(damaged())?.len();
        if size > ARCHIVE_BYTES_MAX as u64 {
            return Err(Failure::plain(format!("{} is too large", path.display())));
        }
        let bytes = fs::read(&path).map_err(damaged())?;
        if parse_name(name).is_none_or(|(_, digest)| digest != Hash::of(&bytes)) {
            let words = format!("{} is damaged: its digest is in its name", path.display());
            return Err(Failure::plain(words));
        }
        let operation = format!("reading {}", path.display());
        read_archive_page(&bytes).map_err(Failure::during(operation))
    }

    /// Adds blocks that follow the last one, durably.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn add(&mut self, blocks: &[ArchivedBlock]) -> Result<(), Failure> {
        let Some(first) = blocks.first() else {
            return Ok(());
        };
        let mut page = ArchivePage::default();
        blocks.iter().for_each(|block| page.push_block(block));
        let (first, bytes) = (first.header.height, page.into_bytes());
        let name = format!("{first:0HEIGHT_DIGITS$}-{}{SUFFIX}", Hash::of(&bytes));
        let path = self.dir.join(&name);
        let operation = format!("writing {}", path.display());
        files::replace(&path, &bytes).map_err(Failure::during(operation))?;
        self.names.insert(first, name);
        Ok(())
    }

    /// Sets how far the archive goes, once all of it was checked.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn set_end(&mut self, height: u64, header: Hash, time_ms: u64) -> Result<(), Failure> {
        let end = ArchiveEnd {
            version: VERSION,
            chain_id: self.chain_id,
            height,
            header,
            time_ms,
        };
        let json = serde_json::to_vec_pretty(&end).expect("our types have JSON forms");
        let path = self.dir.join(END_FILE);
        let operation = format!("writing {}", path.display());
        files::replace(&path, &json).map_err(Failure::during(operation))?;
        self.end = Some(end);
        Ok(())
    }

    /// Takes the blocks above a height out of the archive: the next one was not accepted. Their
    /// files keep their bytes under another name; accepted blocks of the first of them stay.
    ///
    /// # Errors
    /// A file can't be read, written or renamed.
    pub fn refuse_above(&mut self, height: u64) -> Result<(), Failure> {
        let next = height.saturating_add(1);
        let mut refused = self.names.split_off(&next);
        // The file with the last accepted block may have refused ones behind it.
        if let Some((first, name)) = self.names.pop_last() {
            let mut blocks = self.read(&name)?;
            let count = blocks.len();
            blocks.retain(|block| block.header.height <= height);
            if blocks.len() == count {
                self.names.insert(first, name);
            } else {
                // Before the renaming: an audit that ends in between finds the refused block again.
                self.add(&blocks)?;
                refused.insert(first, name);
            }
        }
        for name in refused.into_values() {
            let (from, to) = (self.dir.join(&name), self.dir.join(name + REFUSED_SUFFIX));
            let operation = format!("renaming {}", from.display());
            files::rename(&from, &to).map_err(Failure::during(operation))?;
        }
        Ok(())
    }
}

/// The first height and the digest in a name; `None` for other files.
fn parse_name(name: &str) -> Option<(u64, Hash)> {
    let (first, digest) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    if first.len() != HEIGHT_DIGITS {
        return None;
    }
    Some((first.parse().ok()?, digest.parse().ok()?))
}
