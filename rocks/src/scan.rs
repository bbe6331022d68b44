use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use lamplighter_store::{Direction, KeyRange, StoreError};
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};

use crate::error::convert;
use crate::health::Health;

/// Iterates within bounds that RocksDB itself keeps.
pub(crate) struct Entries<'a> {
    iterator: DBRawIteratorWithThreadMode<'a, DB>,
    direction: Direction,
    dir: PathBuf,
    health: Arc<Health>,
    finished: bool,
}

/// Read options that confine an iterator to the range.
pub(crate) fn bounds(range: KeyRange) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(range.start);
    if let Some(end) = range.end {
        options.set_iterate_upper_bound(end);
    }
    // A scan over the whole chain must not push the state out of the cache.
    options.fill_cache(false);
    options
}

impl<'a> Entries<'a> {
    pub(crate) fn new(
        mut iterator: DBRawIteratorWithThreadMode<'a, DB>,
        direction: Direction,
        dir: PathBuf,
        health: Arc<Health>,
    ) -> Self {
        match direction {
            Direction::Forward => iterator.seek_to_first(),
            Direction::Backward => iterator.seek_to_last(),
        }
        Self {
            iterator,
            direction,
            dir,
            health,
            finished: false,
        }
    }

    fn end(&mut self) -> Option<Result<(Bytes, Bytes), StoreError>> {
        self.finished = true;
        let error = self.iterator.status().err()?;
        let error = convert("scan", &self.dir, error);
        Some(Err(self.health.read(&self.dir, error)))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let Some((key, value)) = self.iterator.item() else {
            return self.end();
        };
        let entry = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        match self.direction {
            Direction::Forward => self.iterator.next(),
            Direction::Backward => self.iterator.prev(),
        }
        Some(Ok(entry))
    }
}
