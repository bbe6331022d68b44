//! The one encoding of everything that is hashed, signed or stored.
//!
//! bincode 2.0.1 `legacy()`: little-endian, fixed-width integers, u64 lengths, u32 enum tags.
//! Decoding demands the exact length and that re-encoding gives the same bytes, so a value has one
//! encoding.

use std::cell::Cell;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json::{self, JsonDecodeError};
use crate::limits::ENCODED_BYTES_MAX;

type LegacyConfig = Configuration<LittleEndian, Fixint, Limit<ENCODED_BYTES_MAX>>;

const CONFIG: LegacyConfig = bincode::config::legacy().with_limit::<ENCODED_BYTES_MAX>();

/// Bytes that a thread keeps of its buffer for encodings. Nearly all values are smaller.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// The buffer in which this thread encodes: one that grows anew for each value would be
    /// allocated and copied several times.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Why bytes are not the encoding of a value of the wanted type.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("decoding {wanted}")]
    Binary {
        wanted: &'static str,
        source: bincode::error::DecodeError,
    },
    #[error("decoding {wanted}: {extra} bytes follow its end")]
    Trailing { wanted: &'static str, extra: usize },
    #[error("decoding {wanted}: not its one canonical encoding")]
    NotCanonical { wanted: &'static str },
    #[error("decoding {wanted}: {got} bytes are more than the limit of {limit}")]
    TooLong {
        wanted: &'static str,
        got: usize,
        limit: usize,
    },
    #[error("reading {wanted} from JSON")]
    Json {
        wanted: &'static str,
        source: JsonDecodeError,
    },
}

/// The binary encoding of `value`.
///
/// # Panics
/// If `value` is larger than [`ENCODED_BYTES_MAX`]; all types of this crate are bounded below it
/// by the limits that are checked where they come in.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    with_encoded(value, <[u8]>::to_vec)
}

/// Gives the binary encoding of `value` to `read`, without an allocation of its own.
///
/// # Panics
/// As [`encode`].
pub fn with_encoded<T: Serialize, R>(value: &T, read: impl FnOnce(&[u8]) -> R) -> R {
    // While it is taken, values that are encoded meanwhile get a buffer of their own.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    bincode::serde::encode_into_writer(value, Appender(&mut buffer), CONFIG)
        .expect("our types encode and are bounded");
    let result = read(&buffer);
    if buffer.capacity() <= BUFFER_BYTES_MAX {
        // A thread that ends needs it no more.
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    result
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Compares what is written with the rest of the expected bytes.
struct Comparison<'a>(&'a [u8]);

impl Writer for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let rest = self.0.strip_prefix(bytes);
        self.0 = rest.ok_or(EncodeError::Other("the bytes differ"))?;
        Ok(())
    }
}

fn is_encoding<T: Serialize>(bytes: &[u8], value: &T) -> bool {
    let mut comparison = Comparison(bytes);
    let written = bincode::serde::encode_into_writer(value, &mut comparison, CONFIG);
    written.is_ok() && comparison.0.is_empty()
}

/// The value that `bytes` encode.
///
/// # Errors
/// Malformed, too long or too short, or not canonical.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let value = decode_stored(bytes)?;
    if !is_encoding(bytes, &value) {
        let wanted = short_name::<T>();
        return Err(CodecError::NotCanonical { wanted });
    }
    Ok(value)
}

/// The value that `bytes` encode, without the comparison of [`decode`]: for bytes that this node
/// encoded itself and keeps under a hash.
pub fn decode_stored<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let decoded = bincode::serde::decode_from_slice(bytes, CONFIG);
    let (value, used) = decoded.map_err(|source| CodecError::Binary {
        wanted: short_name::<T>(),
        source,
    })?;
    if used != bytes.len() {
        return Err(CodecError::Trailing {
            wanted: short_name::<T>(),
            extra: bytes.len() - used,
        });
    }
    Ok(value)
}

/// The value at the begin of an encoding that [`decode`] accepted once, as the first field of a
/// struct is. What follows it is not looked at.
///
/// # Errors
/// The bytes do not begin with such a value.
pub fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let decoded = bincode::serde::decode_from_slice(bytes, CONFIG);
    let (value, _) = decoded.map_err(|source| CodecError::Binary {
        wanted: short_name::<T>(),
        source,
    })?;
    Ok(value)
}

/// The byte strings of an encoded list of them, without a copy: bytes that this node encoded.
///
/// # Errors
/// Malformed, or bytes follow the list.
pub fn byte_strings(bytes: &[u8]) -> Result<Vec<&[u8]>, CodecError> {
    let wanted = "a list of byte strings";
    let decoded = bincode::serde::borrow_decode_from_slice::<Vec<&[u8]>, _>(bytes, CONFIG);
    let (list, used) = decoded.map_err(|source| CodecError::Binary { wanted, source })?;
    if used != bytes.len() {
        let extra = bytes.len() - used;
        return Err(CodecError::Trailing { wanted, extra });
    }
    Ok(list)
}

/// The value whose JSON form the text `bytes` is, by the rules of [`json`](crate::json): unknown
/// and repeated fields are refused.
///
/// # Errors
/// Not JSON as the ledger accepts it, or not the form of such a value.
pub fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let wanted = short_name::<T>();
    let text = std::str::from_utf8(bytes).map_err(|_| JsonDecodeError::NotUtf8);
    text.and_then(|text| json::from_value(json::parse(text, &json::DOCUMENT)?))
        .map_err(|source| CodecError::Json { wanted, source })
}

/// The digest that names a value: blake3 of its binary encoding.
pub fn digest<T: Serialize>(value: &T) -> crate::Hash {
    with_encoded(value, crate::Hash::of)
}

fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    // A list is written `Vec<..>`: its items have the name.
    let last = name.rsplit("::").next().unwrap_or(name);
    last.trim_end_matches('>')
}
