use std::collections::BTreeMap;

use bytes::Bytes;
use lamplighter_types::{EventRecord, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::view::{decode_record, range_after};
use crate::{Key, StateError, View};

/// The changes of a block: state records in key order (`None` deletes), and event records in their
/// order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub writes: BTreeMap<Vec<u8>, Option<Bytes>>,
    pub events: Vec<EventRecord>,
}

/// Buffered writes over a [`View`], in two layers: the block so far, and the current transaction,
/// which is committed or rolled back as a whole.
pub struct Overlay {
    view: View,
    block: Changes,
    transaction: Changes,
}

/// The part of the state that a transaction adds: what it makes less what it removes, never below
/// zero. So the sum over all transactions is at least what the state has grown, in whatever order
/// records are made and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    pub records: u64,
    /// Bytes of keys and values, those of records that were replaced by longer ones included.
    pub bytes: u64,
}

impl Overlay {
    pub fn new(view: View) -> Self {
        Self {
            view,
            block: Changes::default(),
            transaction: Changes::default(),
        }
    }

    /// The overlay right after a block with these changes was executed.
    pub fn with_changes(view: View, changes: Changes) -> Self {
        Self {
            block: changes,
            ..Self::new(view)
        }
    }

    /// The record under `key` after all writes so far.
    pub fn get<T: DeserializeOwned>(&self, key: &Key<T>) -> Result<Option<T>, StateError> {
        let bytes = key.as_bytes();
        match self.written(bytes) {
            Some(None) => Ok(None),
            Some(Some(value)) => decode_record(bytes, value).map(Some),
            None => {
                let stored = self.view.get_bytes(bytes)?;
                stored.map(|value| decode_record(bytes, &value)).transpose()
            }
        }
    }

    pub fn exists<T>(&self, key: &Key<T>) -> Result<bool, StateError> {
        match self.written(key.as_bytes()) {
            Some(value) => Ok(value.is_some()),
            None => Ok(self.view.get_bytes(key.as_bytes())?.is_some()),
        }
    }

    pub fn put<T: Serialize>(&mut self, key: &Key<T>, record: &T) {
        let record = Bytes::from(codec::encode(record));
        let writes = &mut self.transaction.writes;
        writes.insert(key.as_bytes().to_vec(), Some(record));
    }

    pub fn delete<T>(&mut self, key: &Key<T>) {
        self.transaction
            .writes
            .insert(key.as_bytes().to_vec(), None);
    }

    /// Appends an event to those of this block.
    pub fn record_event(&mut self, event: EventRecord) {
        self.transaction.events.push(event);
    }

    /// Up to `limit` records whose keys begin with `prefix`, after the key `after` if one is given.
    ///
    /// The work is bounded by `limit` and the writes of the block under the prefix.
    pub fn scan<T: DeserializeOwned>(
        &self,
        prefix: &Key<T>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key<T>, T)>, StateError> {
        let prefix = prefix.as_bytes();
        let range = range_after(prefix, after);
        let mut overlaid: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        for layer in [&self.block, &self.transaction] {
            let written = layer.writes.range(range.start.to_vec()..);
            for (key, value) in written.take_while(|(key, _)| key.starts_with(prefix)) {
                overlaid.insert(key, value.as_deref());
            }
        }
        // The overlay may hide as many stored records as it has, so that many more are read.
        let stored = self
            .view
            .scan_bytes(prefix, after, limit.saturating_add(overlaid.len()))?;
        let mut merged: BTreeMap<&[u8], Option<&[u8]>> = stored
            .iter()
            .map(|(key, value)| (&key[..], Some(&value[..])))
            .collect();
        merged.extend(overlaid);
        let live = merged
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        live.take(limit)
            .map(|(k, v)| Ok((Key::from_scan(k), decode_record(k, v)?)))
            .collect()
    }

    /// Measures how much the current transaction adds to the state.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn growth(&self) -> Result<Growth, StateError> {
        let (mut made, mut removed) = (Growth::default(), Growth::default());
        for (key, value) in &self.transaction.writes {
            let before = self.size_before(key)?;
            let after = value.as_ref().map(Bytes::len);
            for (size, sum) in [(after, &mut made), (before, &mut removed)] {
                if let Some(size) = size {
                    sum.records += 1;
                    sum.bytes += (key.len() + size) as u64;
                }
            }
        }
        Ok(Growth {
            records: made.records.saturating_sub(removed.records),
            bytes: made.bytes.saturating_sub(removed.bytes),
        })
    }

    /// The bytes of a record before the current transaction. It was read before it was written: a
    /// [`RecordCache`](crate::RecordCache) still has it.
    fn size_before(&self, key: &[u8]) -> Result<Option<usize>, StateError> {
        if let Some(value) = self.block.writes.get(key) {
            return Ok(value.as_ref().map(Bytes::len));
        }
        Ok(self.view.get_bytes(key)?.map(|value| value.len()))
    }

    /// Keeps the writes of the current transaction.
    pub fn commit(&mut self) {
        // One insertion per write: `BTreeMap::append` would build the map of the whole block again.
        let writes = std::mem::take(&mut self.transaction.writes);
        self.block.writes.extend(writes);
        self.block.events.append(&mut self.transaction.events);
    }

    /// Drops the writes of the current transaction.
    pub fn rollback(&mut self) {
        self.transaction = Changes::default();
    }

    /// The events committed so far in this block.
    pub fn events(&self) -> &[EventRecord] {
        &self.block.events
    }

    /// The committed changes of the block; all others are dropped.
    pub fn into_changes(self) -> Changes {
        self.block
    }

    fn written(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.transaction
            .writes
            .get(key)
            .or_else(|| self.block.writes.get(key))
    }
}
