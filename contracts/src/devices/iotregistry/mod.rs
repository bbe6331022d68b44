//! The operations and queries of IOTRegistry, the device registry of the Trusted IoT Alliance
//! (2017).
//!
//! Rules:
//! - An operation is the hexadecimal text of one proto3 message. A *registrant* signs it with ECDSA
//!   over secp256k1; the record does not depend on the sender.
//! - A registrant is known by its compressed public key. Things and specs belong to a registrant
//!   that is registered already; a thing is found by its aliases.
//! - Every key, nonce, alias and spec name is registered once and never changed. A refused
//!   operation stores nothing.
//! - The records have the keys and the proto3 values of the original, the replies to queries its
//!   JSON, byte for byte as Go's `encoding/json` wrote it then.
//!
//! This code accepts all that the original accepts, on purpose or by accident: high-S signatures,
//! bytes after the end of a DER signature, uncompressed and hybrid keys, one alias written twice in
//! one message, an empty alias. It is stricter in two things: text fields must be UTF-8, as proto3
//! demands, and sizes are limited.
//!
//! The signed message of a thing does not cover its nonce, and its parts are joined with `:`
//! without escaping. That is the format, and the reason why our own device record is signed as a
//! whole.

mod error;
mod invoke;
mod json;
mod message;
mod query;
mod signature;
pub(super) mod state;
#[cfg(test)]
mod tests;

pub use error::{RegistryError, RegistryFailure};
pub use invoke::{Registered, invoke};
pub use message::{CreateRegistrant, RegisterSpec, RegisterThing, argument};
pub use query::query;

/// Longest argument of an operation or a query, in bytes of text. An operation takes two per byte
/// of its message, so messages have at most 32 KiB; the largest one seen has 320 bytes.
pub const ARGUMENT_BYTES_MAX: usize = 64 * 1024;

/// Largest number of aliases of one thing. Each is a record of its own, so this bounds the writes
/// of an operation.
pub const ALIASES_MAX: usize = 256;

/// Longest registrant name, alias and spec name, in bytes. They are parts of keys of the state.
pub const NAME_BYTES_MAX: usize = 1024;

/// Bytes of a registrant's name at the ledger: a compressed key of secp256k1 in hexadecimal.
pub(super) const REGISTRANT_BYTES: usize = 66;

/// Longest nonce, in bytes. It is stored once more with every alias.
pub const NONCE_BYTES_MAX: usize = 256;

/// The records of the registry by key, both as the original wrote them.
pub trait Records {
    /// A failure of the store below, which says nothing about the operation.
    type Error;

    /// The record under `key`, `None` where there is none.
    ///
    /// # Errors
    /// When the store below fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Stores `value` under `key`.
    ///
    /// # Errors
    /// When the store below fails.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Self::Error>;
}
