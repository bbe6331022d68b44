//! The scrubber: finds changed bytes that no read meets.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lamplighter_store::{Cf, StoreError};

use crate::RocksKv;
use crate::damage::Damage;
use crate::error::convert;
use crate::seal::digests::PIECE_BYTES;
use crate::seal::image;
use crate::seal::tables::{self, Table};

/// The position of a scrubber. It goes through all tables and begins again.
#[derive(Clone, Debug, Default)]
pub struct Scrub {
    /// The table that it is in.
    table: String,
    piece: u64,
    /// The number of complete passes.
    pub rounds: u64,
}

impl RocksKv {
    /// Takes the digests of tables that were written since the last call. Reads each once, while
    /// it is most likely in memory still.
    pub fn note_tables(&self) -> Result<(), StoreError> {
        tables::record(self.dir(), &self.tables()?)
    }

    /// Compares about `bytes` bytes of tables with their digests. Damage is a failure of the store
    /// ([`RocksKv::failure`]).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with file and offset.
    pub fn scrub(&self, scrub: &mut Scrub, bytes: u64) -> Result<(), StoreError> {
        let mut left = bytes.div_ceil(PIECE_BYTES);
        let tables = self.tables()?;
        while left > 0 {
            let next = tables.iter().find(|table| table.name >= scrub.table);
            let Some(table) = next else {
                *scrub = Scrub {
                    rounds: scrub.rounds + 1,
                    ..Scrub::default()
                };
                return Ok(());
            };
            if table.name != scrub.table {
                (scrub.table, scrub.piece) = (table.name.clone(), 0);
            }
            let recorded = tables::recorded(self.dir(), &table.name)?;
            let count = recorded
                .as_ref()
                .map_or(0, |recorded| recorded.digests.count());
            if let Some(recorded) = &recorded {
                let found = tables::compare(self.dir(), &table.name, recorded, scrub.piece, left)?;
                if let Some(damage) = found {
                    return Err(self.take_damage(damage));
                }
            }
            let done = count.saturating_sub(scrub.piece).min(left);
            left -= done;
            scrub.piece += done;
            if scrub.piece >= count {
                // The smallest name after this one.
                scrub.table.push('\0');
                scrub.piece = 0;
            }
        }
        Ok(())
    }

    /// Compares about `bytes` bytes of this store's images with their recorded digests, from file
    /// number `at` on, and returns the first damage. It does no harm to the store: a new image is
    /// made.
    pub fn scrub_images(
        &self,
        images: &BTreeSet<PathBuf>,
        at: &mut usize,
        bytes: u64,
    ) -> Result<Option<Damage>, StoreError> {
        image::forget(self.dir(), images)?;
        let mut files = Vec::new();
        for image in images {
            let recorded = image::recorded(self.dir(), image)?.into_iter();
            files.extend(recorded.map(|(name, digests)| (image.join(name), digests)));
        }
        let mut left = bytes;
        for (path, digests) in files.iter().skip(*at) {
            if left == 0 {
                return Ok(None);
            }
            *at += 1;
            left = left.saturating_sub(digests.bytes);
            if let Some(damage) = image::compare(path, digests)? {
                return Ok(Some(damage));
            }
        }
        *at = 0;
        Ok(None)
    }

    fn take_damage(&self, damage: Damage) -> StoreError {
        let marked = tables::mark(self.dir(), Some(&damage));
        let error = self.health().damaged(damage.into());
        marked.err().unwrap_or(error)
    }

    /// The tables in use.
    pub(crate) fn tables(&self) -> Result<BTreeSet<Table>, StoreError> {
        let files = self.database().live_files();
        let files = files.map_err(|error| convert("list the tables", self.dir(), error))?;
        let table = |file: rocksdb::LiveFile| {
            let of = |cf: &Cf| cf.name() == file.column_family_name;
            Some(Table {
                family: Cf::ALL.into_iter().find(of)?.name(),
                name: file.name.trim_start_matches('/').to_owned(),
            })
        };
        Ok(files.into_iter().filter_map(table).collect())
    }
}
