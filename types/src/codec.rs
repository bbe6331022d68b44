//! The one encoding of everything that is hashed, signed or stored.
//!
//! bincode 2.0.1 `legacy()`: little-endian, fixed-width integers, u64 lengths, u32 enum tags.
//! Decoding demands the exact length and that re-encoding gives the same bytes, so a value has one
//! encoding.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json::{self, JsonDecodeError};
use crate::limits::ENCODED_BYTES_MAX;

type LegacyConfig = Configuration<LittleEndian, Fixint, Limit<ENCODED_BYTES_MAX>>;

const CONFIG: LegacyConfig = bincode::config::legacy().with_limit::<ENCODED_BYTES_MAX>();

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
    bincode::serde::encode_to_vec(value, CONFIG).expect("our types encode and are bounded")
}

/// The value that `bytes` encode.
///
/// # Errors
/// Malformed, too long or too short, or not canonical.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let wanted = short_name::<T>();
    let value = decode_stored(bytes)?;
    if encode(&value) != bytes {
        return Err(CodecError::NotCanonical { wanted });
    }
    Ok(value)
}

/// The value that `bytes` encode, without the comparison of [`decode`]: for bytes that this node
/// encoded itself and keeps under a hash.
pub fn decode_stored<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let wanted = short_name::<T>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|source| CodecError::Binary { wanted, source })?;
    if used != bytes.len() {
        return Err(CodecError::Trailing {
            wanted,
            extra: bytes.len() - used,
        });
    }
    Ok(value)
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
    crate::Hash::of(&encode(value))
}

fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    // A list is written `Vec<..>`: its items have the name.
    let last = name.rsplit("::").next().unwrap_or(name);
    last.trim_end_matches('>')
}
