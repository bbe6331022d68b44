use std::sync::Arc;

use bytes::Bytes;
use lamplighter_store::{Cf, Direction, KeyRange, KvView, get_each};
use lamplighter_types::codec;
use serde::de::DeserializeOwned;

use crate::{Key, StateError};

/// An encoded record with its key.
pub type EncodedRecord = (Vec<u8>, Vec<u8>);

/// The state after a block, for reading. It is cheap to clone.
#[derive(Clone)]
pub struct View(Arc<dyn KvView>);

impl View {
    /// The view of the store itself (the newest state) or of one of its consistent views.
    pub fn new(store: Arc<dyn KvView>) -> Self {
        Self(store)
    }

    /// The store below, for the tables beside the state.
    pub fn store(&self) -> &Arc<dyn KvView> {
        &self.0
    }

    /// The record under `key`.
    pub fn get<T: DeserializeOwned>(&self, key: &Key<T>) -> Result<Option<T>, StateError> {
        self.get_bytes(key.as_bytes())?
            .map(|bytes| decode_record(key.as_bytes(), &bytes))
            .transpose()
    }

    /// The records under keys, in the order of the keys.
    pub fn get_many<T: DeserializeOwned>(
        &self,
        keys: &[Key<T>],
    ) -> Result<Vec<Option<T>>, StateError> {
        let keys: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let mut records = Vec::with_capacity(keys.len());
        get_each(&*self.0, Cf::State, &keys, |number, record| {
            let decode = |record: Bytes| decode_record(&keys[number], &record);
            records.push(record.map(decode).transpose()?);
            Ok::<_, StateError>(())
        })?;
        Ok(records)
    }

    /// The encoded record under a key.
    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.0.get(Cf::State, key)?)
    }

    /// Up to `limit` records whose keys begin with `prefix`, after the key `after` if one is given.
    pub fn scan<T: DeserializeOwned>(
        &self,
        prefix: &Key<T>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key<T>, T)>, StateError> {
        let found = self.scan_bytes(prefix.as_bytes(), after, limit)?;
        found
            .into_iter()
            .map(|(k, v)| Ok((Key::from_scan(&k), decode_record(&k, &v)?)))
            .collect()
    }

    /// Scans as [`scan`](Self::scan) does, without decoding.
    pub fn scan_bytes(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<EncodedRecord>, StateError> {
        let range = range_after(prefix, after);
        let mut found = Vec::new();
        for entry in self
            .0
            .scan(Cf::State, range, Direction::Forward)?
            .take(limit)
        {
            let (key, value) = entry?;
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(found)
    }
}

/// The keys that begin with `prefix`, from right after `after` on.
pub(crate) fn range_after(prefix: &[u8], after: Option<&[u8]>) -> KeyRange {
    let mut range = KeyRange::prefix(prefix.to_vec());
    if let Some(after) = after {
        let next = [after, &[0]].concat();
        if next[..] > range.start[..] {
            range.start = next.into();
        }
    }
    range
}

pub(crate) fn decode_record<T: DeserializeOwned>(
    key: &[u8],
    bytes: &[u8],
) -> Result<T, StateError> {
    codec::decode_stored(bytes).map_err(|source| StateError::Corrupt {
        table: "state",
        key: hex_text(key),
        source,
    })
}

fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
