//! The proto3 messages of operations and records, and the keys of the records.
//!
//! The field numbers are those of the format. Unknown fields are skipped, the last one counts if a
//! field occurs twice, and absent and empty are the same.

use prost::Message;

/// Argument of `createRegistrant`.
#[derive(Clone, PartialEq, Message)]
pub struct CreateRegistrant {
    /// Shown to people; need not be unique.
    #[prost(string, tag = "1")]
    pub registrant_name: String,
    /// SEC1 form: compressed, uncompressed or hybrid.
    #[prost(bytes = "vec", tag = "2")]
    pub registrant_pubkey: Vec<u8>,
    /// Signed, not stored.
    #[prost(string, tag = "3")]
    pub data: String,
    /// DER.
    #[prost(bytes = "vec", tag = "4")]
    pub signature: Vec<u8>,
}

/// Argument of `registerThing`.
#[derive(Clone, PartialEq, Message)]
pub struct RegisterThing {
    /// The thing's number, chosen by the registrant.
    #[prost(bytes = "vec", tag = "1")]
    pub nonce: Vec<u8>,
    /// The names under which the thing is found.
    #[prost(string, repeated, tag = "2")]
    pub aliases: Vec<String>,
    /// Lower-case hexadecimal of the compressed key.
    #[prost(string, tag = "3")]
    pub registrant_pubkey: String,
    /// DER.
    #[prost(bytes = "vec", tag = "4")]
    pub signature: Vec<u8>,
    /// Free text.
    #[prost(string, tag = "5")]
    pub data: String,
    /// Name of a spec, which need not exist.
    #[prost(string, tag = "6")]
    pub spec: String,
}

/// Argument of `registerSpec`.
#[derive(Clone, PartialEq, Message)]
pub struct RegisterSpec {
    /// The name under which it is found.
    #[prost(string, tag = "1")]
    pub spec_name: String,
    /// Lower-case hexadecimal of the compressed key.
    #[prost(string, tag = "2")]
    pub registrant_pubkey: String,
    /// DER.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
    /// Free text.
    #[prost(string, tag = "4")]
    pub data: String,
}

/// Record of a registrant.
#[derive(Clone, PartialEq, Message)]
pub struct Registrant {
    /// The text at registration.
    #[prost(string, tag = "1")]
    pub registrant_name: String,
    /// Compressed, 33 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub registrant_pubkey: Vec<u8>,
}

/// Record of a thing.
#[derive(Clone, PartialEq, Message)]
pub struct Thing {
    /// The text at registration.
    #[prost(string, repeated, tag = "1")]
    pub aliases: Vec<String>,
    /// The registrant, lower-case hexadecimal of its compressed key.
    #[prost(string, tag = "2")]
    pub registrant_pubkey: String,
    /// Free text.
    #[prost(string, tag = "3")]
    pub data: String,
    /// Name of a spec, which need not exist.
    #[prost(string, tag = "4")]
    pub spec_name: String,
}

/// Record of an alias.
#[derive(Clone, PartialEq, Message)]
pub struct Alias {
    /// The thing's.
    #[prost(bytes = "vec", tag = "1")]
    pub nonce: Vec<u8>,
}

/// Record of a spec.
#[derive(Clone, PartialEq, Message)]
pub struct Spec {
    /// Free text.
    #[prost(string, tag = "1")]
    pub data: String,
    /// The registrant, lower-case hexadecimal of its compressed key.
    #[prost(string, tag = "2")]
    pub registrant_pubkey: String,
}

/// Key of a registrant's record; `pubkey` is the hexadecimal text as written.
pub fn registrant_key(pubkey: &str) -> Vec<u8> {
    format!("RegistrantPubkey:{pubkey}").into_bytes()
}

/// Key of a thing's record.
pub fn thing_key(nonce: &[u8]) -> Vec<u8> {
    format!("Thing:{}", hex::encode(nonce)).into_bytes()
}

/// Key of an alias's record.
pub fn alias_key(alias: &str) -> Vec<u8> {
    format!("Alias:{alias}").into_bytes()
}

/// Key of a spec's record.
pub fn spec_key(name: &str) -> Vec<u8> {
    format!("Spec:{name}").into_bytes()
}

/// The argument of an operation: the message in lower-case hexadecimal.
pub fn argument(message: &impl Message) -> String {
    hex::encode(message.encode_to_vec())
}
