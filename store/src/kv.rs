use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::{StoreError, WriteBatch};

/// The column families: separate ordered key spaces that share one write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cf {
    /// Data of this node alone: its identity, its vote, its attestations. Never copied.
    Meta,
    /// The Raft log. Never copied.
    Log,
    /// The state of the chain: applied marker, head, format versions.
    Chain,
    /// The contracts' state.
    State,
    /// Headers and bodies of blocks by height.
    Blocks,
    /// Receipts by height and index.
    Receipts,
    /// Transaction hash to place in the chain.
    Transactions,
    /// Bodies of device events.
    Events,
    /// Attestations and certificates by height.
    Certificates,
    /// Secondary indexes.
    Index,
    /// Nodes of the tree over all earlier header hashes.
    History,
}

impl Cf {
    /// Every column family, in the order of the enum.
    pub const ALL: [Cf; 11] = [
        Cf::Meta,
        Cf::Log,
        Cf::Chain,
        Cf::State,
        Cf::Blocks,
        Cf::Receipts,
        Cf::Transactions,
        Cf::Events,
        Cf::Certificates,
        Cf::Index,
        Cf::History,
    ];

    /// The name on disk; never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Cf::Meta => "meta",
            Cf::Log => "log",
            Cf::Chain => "chain",
            Cf::State => "state",
            Cf::Blocks => "blocks",
            Cf::Receipts => "receipts",
            Cf::Transactions => "transactions",
            Cf::Events => "events",
            Cf::Certificates => "certificates",
            Cf::Index => "index",
            Cf::History => "history",
        }
    }

    /// Whether snapshots carry this family to another node.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Cf::Meta | Cf::Log)
    }
}

/// A half-open range of keys in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Bytes,
    /// First key after the range; none means to the end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self {
            start: Bytes::new(),
            end: None,
        }
    }

    /// Every key from this one on.
    pub fn starting_at(start: impl Into<Bytes>) -> Self {
        Self {
            start: start.into(),
            end: None,
        }
    }

    /// From `start` to before `end`; empty when `start >= end`.
    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    /// Every key that starts with these bytes.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let kept = start.iter().rposition(|byte| *byte != 0xff);
        let end = kept.map(|last| {
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        });
        Self { start, end }
    }

    /// Whether the range holds no key.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether the range holds the key.
    pub fn contains(&self, key: &[u8]) -> bool {
        *key >= self.start[..] && self.end.as_ref().is_none_or(|end| *key < end[..])
    }
}

impl From<Range<Vec<u8>>> for KeyRange {
    fn from(range: Range<Vec<u8>>) -> Self {
        Self::between(range.start, range.end)
    }
}

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// The durability of a write. See the crate's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk, together with everything written before.
    Synced,
    /// Handed to the operating system.
    Unsynced,
}

/// Keys and values in order. Holds one entry (or one block of the file) at a time, and sees the
/// store as it was when the scan began. After an error it ends.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StoreError>> + Send + 'a>;

/// Bytes of values after which a read of many keys returns them: the values of a page of records
/// fit, and a hundred rows of a MiB each are not in memory together.
pub const SOME_BYTES_MAX: usize = 1 << 20;

/// Keys that a store reads at once without knowing how long their values are.
pub const KEYS_AT_ONCE: usize = 16;

/// Reads the values of keys of one family in the order of the keys, some at a time, and calls
/// `each` with the number of the key.
///
/// # Errors
/// The store can't be read, or `each` returns an error.
pub fn get_each<E: From<StoreError>>(
    store: &(impl KvView + ?Sized),
    cf: Cf,
    keys: &[Vec<u8>],
    mut each: impl FnMut(usize, Option<Bytes>) -> Result<(), E>,
) -> Result<(), E> {
    let mut number = 0;
    while let Some(left) = keys.get(number..).filter(|left| !left.is_empty()) {
        for value in store.get_some(cf, left)? {
            each(number, value)?;
            number += 1;
        }
    }
    Ok(())
}

/// Something that can be read: the store as it is now, or a consistent view of it.
pub trait KvView: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The values of the first of these keys of one family, in the order of the keys: of one at
    /// least, and of fewer than [`KEYS_AT_ONCE`] more once they have [`SOME_BYTES_MAX`] together. A
    /// store may read many at once more quickly than one after the other. [`get_each`] reads those
    /// of all keys.
    fn get_some(&self, cf: Cf, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut some = Vec::new();
        let mut bytes = 0;
        for key in keys {
            let value = self.get(cf, key)?;
            bytes += value.as_ref().map_or(0, Bytes::len);
            some.push(value);
            if bytes >= SOME_BYTES_MAX {
                break;
            }
        }
        Ok(some)
    }

    /// The entries of a range, in order.
    fn scan(&self, cf: Cf, range: KeyRange, direction: Direction) -> Result<Scan<'_>, StoreError>;
}

/// An ordered key-value store with atomic batches over all column families.
///
/// All methods block; a caller on an async thread decides itself whether that matters.
pub trait Kv: KvView {
    /// Applies a batch atomically. Writes are ordered: a crash cannot take an earlier write when a
    /// later one is durable.
    ///
    /// After an error the batch may or may not be there, and a caller that continues has to find
    /// out.
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError>;

    /// Makes every earlier write durable.
    fn sync(&self) -> Result<(), StoreError>;

    /// The store as it is now, unaffected by later writes. Keep it for a short time: it holds back
    /// the reclaiming of space.
    fn view(&self) -> Result<Arc<dyn KvView>, StoreError>;

    /// Writes a durable image of the store into a directory that does not exist yet, in a parent
    /// that does. When it returns the image is on disk; after an error the directory may be
    /// half-written and is to be removed.
    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError>;

    /// Opens an image for reading that [`Kv::checkpoint`] of the same kind of store wrote, here or
    /// on another node. Does not write into the directory.
    fn read_checkpoint(&self, dir: &Path) -> Result<Arc<dyn KvView>, StoreError>;
}
