//! The encoding of records on disk and of messages.
//!
//! Headers are bincode 2 with the `legacy()` configuration (fixed-width little-endian); batches are
//! not encoded. A frame is: length of the header (u32, little-endian), header, payload.

use bincode::config::{Configuration, Fixint, LittleEndian, legacy};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a header; the longest one lists the files of a snapshot.
const HEADER_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("malformed {0}")]
    Malformed(&'static str),
    #[error("malformed {what}")]
    Decode {
        what: &'static str,
        #[source]
        source: Box<bincode::error::DecodeError>,
    },
}

fn config() -> Configuration<LittleEndian, Fixint, bincode::config::Limit<HEADER_BYTES_MAX>> {
    legacy().with_limit::<HEADER_BYTES_MAX>()
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, legacy())
        .expect("headers are plain data that can always be encoded")
}

pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config()).map_err(|source| {
        CodecError::Decode {
            what,
            source: Box::new(source),
        }
    })?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(CodecError::Malformed(what))
    }
}

pub fn frame<T: Serialize>(header: &T, payload: &[u8]) -> Bytes {
    let header = encode(header);
    let mut out = BytesMut::with_capacity(4 + header.len() + payload.len());
    out.put_u32_le(header.len() as u32);
    out.put_slice(&header);
    out.put_slice(payload);
    out.freeze()
}

/// Splits a frame into its header and its payload.
pub fn unframe<T: DeserializeOwned>(
    what: &'static str,
    mut bytes: Bytes,
) -> Result<(T, Bytes), CodecError> {
    let len = bytes
        .try_get_u32_le()
        .map_err(|_| CodecError::Malformed(what))? as usize;
    if len > bytes.len() || len > HEADER_BYTES_MAX {
        return Err(CodecError::Malformed(what));
    }
    let header = bytes.split_to(len);
    Ok((decode(what, &header)?, bytes))
}
