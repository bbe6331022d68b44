//! Keys and signatures on secp256k1, as the Go library `btcec` read them in 2017.

use k256::ecdsa::signature::Verifier;
use k256::ecdsa::{Signature, VerifyingKey};

use super::error::RegistryError;

const COMPRESSED_BYTES: usize = 33;
const UNCOMPRESSED_BYTES: usize = 65;

/// Reads a public key in one of the forms of SEC1 2.3.3 and of X9.62: compressed (02, 03),
/// uncompressed (04), hybrid (06, 07: uncompressed, with the parity of y in the first byte).
/// `btcec` ignored the lowest bit of an uncompressed key's first byte, so 05 is taken as 04.
///
/// # Errors
/// [`RegistryError::BadKey`] for anything else, and for what is no point of the curve.
pub fn parse_key(bytes: &[u8]) -> Result<VerifyingKey, RegistryError> {
    let mut form = [0u8; UNCOMPRESSED_BYTES];
    let sec1 = match (bytes.len(), bytes.first()) {
        (COMPRESSED_BYTES, Some(2 | 3)) => bytes,
        (UNCOMPRESSED_BYTES, Some(first @ 4..=7)) => {
            let odd = bytes[UNCOMPRESSED_BYTES - 1] & 1;
            if *first >= 6 && first & 1 != odd {
                return Err(RegistryError::BadKey);
            }
            form.copy_from_slice(bytes);
            form[0] = 4;
            &form
        }
        _ => return Err(RegistryError::BadKey),
    };
    VerifyingKey::from_sec1_bytes(sec1).map_err(|_| RegistryError::BadKey)
}

/// The compressed form of a key, 33 bytes.
pub fn compress(key: &VerifyingKey) -> Vec<u8> {
    key.to_sec1_point(true).as_bytes().to_vec()
}

/// Checks a DER signature of SHA-256(`message`).
///
/// Bytes after the end that the signature's own length byte names are ignored, and both values of s
/// are accepted, as by `btcec`; k256 refuses a high s, so it gets the low one, which is valid for
/// the same messages.
///
/// # Errors
/// [`RegistryError::BadSignatureForm`] and [`RegistryError::WrongSignature`].
pub fn verify(key: &VerifyingKey, der: &[u8], message: &str) -> Result<(), RegistryError> {
    let body_bytes = der.get(1).copied().map_or(0, usize::from);
    let der = der
        .get(..body_bytes + 2)
        .ok_or(RegistryError::BadSignatureForm)?;
    let signature = Signature::from_der(der)
        .map_err(|_| RegistryError::BadSignatureForm)?
        .normalize_s();
    key.verify(message.as_bytes(), &signature)
        .map_err(|_| RegistryError::WrongSignature)
}
