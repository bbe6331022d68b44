use std::fmt;
use std::marker::PhantomData;

use lamplighter_types::{Hash, Id, PublicKey};

/// Bytes that most keys need, so that none grows while it is made.
const USUAL_BYTES: usize = 64;

/// The key of a state record, with the type of the record.
///
/// It is a table byte, then parts of fixed width (big-endian numbers, hashes, keys) or parts that
/// end with a zero byte (text without zero bytes). So no key is a prefix of another one in its
/// table, and byte order is the order of the parts.
pub struct Key<T> {
    bytes: Vec<u8>,
    record: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The prefix of all keys of a table.
    pub fn table(table: u8) -> Self {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        bytes.push(table);
        Self {
            bytes,
            record: PhantomData,
        }
    }

    /// Adds a name.
    pub fn id(self, id: &Id) -> Self {
        self.text(id.as_str())
    }

    /// Adds text. A zero byte in it is written as 0x01 0x01, and 0x01 as 0x01 0x02, so that only
    /// the end is a zero byte.
    pub fn text(mut self, text: &str) -> Self {
        if text.bytes().any(|byte| byte <= 1) {
            for byte in text.bytes() {
                match byte {
                    0 => self.bytes.extend([1, 1]),
                    1 => self.bytes.extend([1, 2]),
                    other => self.bytes.push(other),
                }
            }
        } else {
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.bytes.push(0);
        self
    }

    /// Adds a number, big-endian.
    pub fn number(mut self, number: u64) -> Self {
        self.bytes.extend(number.to_be_bytes());
        self
    }

    /// Adds a byte.
    pub fn byte(mut self, byte: u8) -> Self {
        self.bytes.push(byte);
        self
    }

    /// Adds a digest.
    pub fn hash(mut self, hash: &Hash) -> Self {
        self.bytes.extend(hash.0);
        self
    }

    /// Adds a public key.
    pub fn key(mut self, key: &PublicKey) -> Self {
        self.bytes.extend(key.0);
        self
    }

    /// The bytes of the key in the state tree and the store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key that a scan found.
    pub fn from_scan(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            record: PhantomData,
        }
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            record: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.bytes.escape_ascii())
    }
}
