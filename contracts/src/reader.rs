//! Reading records, from a view or from an overlay.

use lamplighter_state::{Key, Overlay, StateError, View};
use serde::de::DeserializeOwned;

/// A source of records: a [`View`] at the edge, an [`Overlay`] during execution.
pub trait Reader {
    /// The record under `key`.
    fn get<T: DeserializeOwned>(&self, key: &Key<T>) -> Result<Option<T>, StateError>;

    /// The records under keys, in the order of the keys.
    fn get_many<T: DeserializeOwned>(&self, keys: &[Key<T>]) -> Result<Vec<Option<T>>, StateError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Up to `limit` records whose keys begin with `prefix`, after the key `after` if one is given.
    fn scan<T: DeserializeOwned>(
        &self,
        prefix: &Key<T>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key<T>, T)>, StateError>;

    /// Up to `limit` records whose keys begin with `prefix`, without their keys, after the record
    /// under `after`.
    fn page<T: DeserializeOwned>(
        &self,
        prefix: &Key<T>,
        after: Option<&Key<T>>,
        limit: usize,
    ) -> Result<Vec<T>, StateError> {
        let found = self.scan(prefix, after.map(Key::as_bytes), limit)?;
        Ok(found.into_iter().map(|(_, record)| record).collect())
    }
}

impl Reader for View {
    fn get<T: DeserializeOwned>(&self, key: &Key<T>) -> Result<Option<T>, StateError> {
        View::get(self, key)
    }

    fn get_many<T: DeserializeOwned>(&self, keys: &[Key<T>]) -> Result<Vec<Option<T>>, StateError> {
        View::get_many(self, keys)
    }

    fn scan<T: DeserializeOwned>(
        &self,
        prefix: &Key<T>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key<T>, T)>, StateError> {
        View::scan(self, prefix, after, limit)
    }
}

impl Reader for Overlay {
    fn get<T: DeserializeOwned>(&self, key: &Key<T>) -> Result<Option<T>, StateError> {
        Overlay::get(self, key)
    }

    fn scan<T: DeserializeOwned>(
        &self,
        prefix: &Key<T>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key<T>, T)>, StateError> {
        Overlay::scan(self, prefix, after, limit)
    }
}
