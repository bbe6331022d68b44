use bytes::Bytes;

use crate::{Cf, KeyRange};

/// One change within a [`WriteBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put { cf: Cf, key: Bytes, value: Bytes },
    Delete { cf: Cf, key: Bytes },
    DeleteRange { cf: Cf, range: KeyRange },
}

/// Changes that happen together or not at all, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    ops: Vec<Op>,
    size_bytes: usize,
}

impl WriteBatch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key, whether or not it was there.
    pub fn put(&mut self, cf: Cf, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.size_bytes += key.len() + value.len();
        self.ops.push(Op::Put { cf, key, value });
    }

    /// Removes a key; a key that is not there is no error.
    pub fn delete(&mut self, cf: Cf, key: impl Into<Bytes>) {
        let key = key.into();
        self.size_bytes += key.len();
        self.ops.push(Op::Delete { cf, key });
    }

    /// Removes every key of the range, those put earlier in this batch included.
    pub fn delete_range(&mut self, cf: Cf, range: KeyRange) {
        self.ops.push(Op::DeleteRange { cf, range });
    }

    /// Adds the changes of another batch after those of this one.
    pub fn append(&mut self, other: WriteBatch) {
        self.size_bytes += other.size_bytes;
        self.ops.extend(other.ops);
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Bytes of keys and values, without any overhead.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }
}
