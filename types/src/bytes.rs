//! Fixed and variable byte strings: raw in the binary encoding, hexadecimal in JSON.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte string was not the hexadecimal text it should have been.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HexError {
    #[error("expected {expected} hexadecimal digits, got {got}")]
    Length { expected: usize, got: usize },
    #[error("only the digits 0-9 and a-f are accepted")]
    Digit,
}

fn decode_hex(text: &str, into: &mut [u8]) -> Result<(), HexError> {
    if text.len() != into.len() * 2 {
        return Err(HexError::Length {
            expected: into.len() * 2,
            got: text.len(),
        });
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(HexError::Digit);
    }
    hex::decode_to_slice(text, into).map_err(|_| HexError::Digit)
}

/// Bytes that are encoded at once: as a little-endian number they are in their order, and there are
/// an eighth as many.
const WORD: usize = 8;

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0; $len];
                decode_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return serializer.serialize_str(&hex::encode(self.0));
                }
                const { assert!($len % WORD == 0, "no byte may be left out") };
                let words = self.0.as_chunks::<WORD>().0;
                let mut tuple = serializer.serialize_tuple(words.len())?;
                for word in words {
                    tuple.serialize_element(&u64::from_le_bytes(*word))?;
                }
                tuple.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    return deserializer.deserialize_str(HexVisitor::<$len>).map(Self);
                }
                deserializer.deserialize_tuple($len / WORD, HexVisitor::<$len>).map(Self)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                crate::schema::hex_text(Some($len))
            }
        }
        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    };
}

struct HexVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for HexVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes as lower-case hexadecimal text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<[u8; N], E> {
        let mut bytes = [0; N];
        decode_hex(text, &mut bytes).map_err(E::custom)?;
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
        let mut bytes = [0; N];
        for (at, word) in bytes.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
            let next: Option<u64> = seq.next_element()?;
            let next = next.ok_or_else(|| de::Error::invalid_length(at * WORD, &self))?;
            *word = next.to_le_bytes();
        }
        Ok(bytes)
    }
}

fixed_bytes!(
    /// A blake3 digest.
    Hash, 32
);
fixed_bytes!(
    /// An ed25519 public key (RFC 8032), compressed.
    PublicKey, 32
);
fixed_bytes!(
    /// An ed25519 signature (RFC 8032).
    Signature, 64
);
fixed_bytes!(
    /// The random id of a login at one node.
    SessionId, 16
);

impl Hash {
    /// Stands for "none": the parent of the first header, the root of an empty sparse tree.
    pub const ZERO: Hash = Hash([0; 32]);

    /// blake3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }
}

/// A byte string of any length.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HexBytes(pub Vec<u8>);

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HexBytes({})", hex::encode(&self.0))
    }
}

impl AsRef<[u8]> for HexBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for HexBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

struct HexBytesVisitor;

impl Visitor<'_> for HexBytesVisitor {
    type Value = HexBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes as lower-case hexadecimal text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HexBytes, E> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(E::custom(HexError::Digit));
        }
        hex::decode(text)
            .map(HexBytes)
            .map_err(|_| E::custom(HexError::Digit))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<HexBytes, E> {
        Ok(HexBytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<HexBytes, E> {
        Ok(HexBytes(bytes))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(HexBytesVisitor)
        } else {
            deserializer.deserialize_byte_buf(HexBytesVisitor)
        }
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for HexBytes {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        crate::schema::hex_text(None)
    }
}
#[cfg(feature = "openapi")]
impl utoipa::ToSchema for HexBytes {}
