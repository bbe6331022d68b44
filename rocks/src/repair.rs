//! Opening a damaged store, and removing damaged data that other nodes have too.

use std::path::Path;
use std::sync::Arc;

use lamplighter_store::{Cf, StoreError};
use rocksdb::DB;

use crate::damage::Damage;
use crate::error::convert;
use crate::kv::descriptors;
use crate::seal::check::Problem;
use crate::seal::tables;
use crate::{Options, RocksKv};

impl RocksKv {
    /// Opens the store like [`RocksKv::open`]. If the damage is in a column family that other nodes
    /// have too, all of these families are emptied together and the damage is returned beside the
    /// store: the caller fetches them from another node. Data of this node alone stays: its log,
    /// its vote, its signatures.
    ///
    /// # Errors
    /// The errors of [`RocksKv::open`]: above all [`StoreError::Corrupt`] where this node's own
    /// promises are damaged.
    pub fn open_or_repair(
        dir: &Path,
        options: Options,
    ) -> Result<(Self, Option<Damage>), StoreError> {
        match Self::try_open(dir, options.clone()) {
            Ok(kv) => Ok((kv, None)),
            Err(Problem::Damage(damage)) if damage.is_shared() => {
                tracing::error!(%damage, "damaged data is removed and fetched from other nodes");
                // If this is interrupted it begins again.
                tables::mark(dir, Some(&damage))?;
                drop_shared(dir, &options)?;
                tables::unmark(dir)?;
                match Self::try_open(dir, options) {
                    Ok(kv) => Ok((kv, Some(damage))),
                    Err(problem) => Err(problem.into()),
                }
            }
            Err(problem) => Err(problem.into()),
        }
    }
}

impl From<Problem> for StoreError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Damage(damage) => damage.into(),
            Problem::Store(error) => error,
        }
    }
}

fn drop_shared(dir: &Path, options: &Options) -> Result<(), StoreError> {
    let failed = |error| convert("remove damaged tables", dir, error);
    let mut database = options.database(&Arc::default());
    // A table of the wrong length is no obstacle here: none of the damaged ones is read.
    database.set_paranoid_checks(false);
    database.create_if_missing(false);
    let opened = DB::open_cf_descriptors(&database, dir, descriptors(options));
    let mut db = opened.map_err(failed)?;
    for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shared()) {
        db.drop_cf(cf.name()).map_err(failed)?;
    }
    Ok(())
}

/// The table that a message of RocksDB names, and the offset in it.
pub(crate) fn named_table(message: &str) -> Option<(String, u64)> {
    let end = message.find(".sst")?;
    let digits = message[..end].bytes().rev();
    let count = digits.take_while(u8::is_ascii_digit).count();
    let name = &message[end - count..end + 4];
    let offset = message.split("offset ").nth(1).and_then(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    (count > 0).then(|| (name.to_owned(), offset.unwrap_or(0)))
}

/// The damage that a message of RocksDB reports, if it is in a table with recorded digests.
pub(crate) fn damage_in(dir: &Path, message: String) -> Option<Damage> {
    let (table, offset) = named_table(&message)?;
    let recorded = tables::recorded(dir, &table).ok().flatten()?;
    Some(Damage {
        family: Some(recorded.family),
        ..Damage::new(&dir.join(table), offset, &message)
    })
}

/// The problem behind an error of RocksDB at the opening of a store.
pub(crate) fn problem(dir: &Path, error: StoreError) -> Problem {
    let found = match &error {
        StoreError::Corrupt { what, .. } => damage_in(dir, what.clone()),
        _ => None,
    };
    found.map_or(Problem::Store(error), Problem::Damage)
}
