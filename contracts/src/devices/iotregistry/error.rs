//! Refusals of operations and queries.

use thiserror::Error;

use crate::ContractError;

/// Why an operation or a query is refused. It depends on the argument and the records only, so it
/// is the same on every node.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum RegistryError {
    /// No operation and no query has this name.
    #[error("IOTRegistry has no function of this name")]
    UnknownFunction,
    /// See [`super::ARGUMENT_BYTES_MAX`].
    #[error("the argument is longer than {max} bytes")]
    ArgumentTooLong {
        /// The limit, in bytes.
        max: usize,
    },
    /// The argument of an operation is not hexadecimal text.
    #[error("the argument is not hexadecimal")]
    NotHex(#[source] hex::FromHexError),
    /// The bytes are no proto3 message of the function.
    #[error("the argument is no message of this function")]
    NotProtobuf(#[source] prost::DecodeError),
    /// A field that must be there is missing or empty.
    #[error("{field} is empty")]
    Empty {
        /// The field's name in the format.
        field: &'static str,
    },
    /// A field is longer than the registry takes.
    #[error("{field} has more than {max} {unit}")]
    TooLarge {
        /// The field's name in the format.
        field: &'static str,
        /// The limit.
        max: usize,
        /// The unit of the limit.
        unit: &'static str,
    },
    /// The registrant's key is no point of secp256k1 in a known form.
    #[error("the registrant's key is no point of secp256k1")]
    BadKey,
    /// The signature is no DER of two numbers in range.
    #[error("the signature is not DER")]
    BadSignatureForm,
    /// The signature is not the registrant's over this message.
    #[error("the signature does not match the message and the registrant's key")]
    WrongSignature,
    /// A registrant has this key.
    #[error("the registrant is there already")]
    RegistrantExists,
    /// A thing has this nonce.
    #[error("a thing with this nonce is there already")]
    NonceExists,
    /// A thing has this alias.
    #[error("the alias {alias:?} is taken")]
    AliasExists {
        /// The alias.
        alias: String,
    },
    /// A spec has this name.
    #[error("a spec of this name is there already")]
    SpecExists,
    /// No registrant has this key, compared as text.
    #[error("the registrant is not known")]
    UnknownRegistrant,
    /// The query found nothing.
    #[error("there is no such record")]
    NotFound,
    /// A record of the state is not in the registry's form.
    #[error("the stored record is damaged")]
    DamagedRecord(#[source] prost::DecodeError),
}

impl ContractError for RegistryError {
    fn code(&self) -> &'static str {
        match self {
            RegistryError::UnknownFunction => "iotregistry.unknown_function",
            RegistryError::ArgumentTooLong { .. } | RegistryError::TooLarge { .. } => {
                "iotregistry.too_large"
            }
            RegistryError::NotHex(_) => "iotregistry.not_hex",
            RegistryError::NotProtobuf(_) => "iotregistry.not_protobuf",
            RegistryError::Empty { .. } => "iotregistry.empty_field",
            RegistryError::BadKey => "iotregistry.bad_key",
            RegistryError::BadSignatureForm => "iotregistry.bad_signature_form",
            RegistryError::WrongSignature => "iotregistry.wrong_signature",
            RegistryError::RegistrantExists => "iotregistry.registrant_exists",
            RegistryError::NonceExists => "iotregistry.nonce_exists",
            RegistryError::AliasExists { .. } => "iotregistry.alias_exists",
            RegistryError::SpecExists => "iotregistry.spec_exists",
            RegistryError::UnknownRegistrant => "iotregistry.unknown_registrant",
            RegistryError::NotFound => "iotregistry.not_found",
            RegistryError::DamagedRecord(_) => "iotregistry.damaged_record",
        }
    }
}

/// Why an operation or a query has no result. The two cases are kept apart because the first is
/// part of the ledger and the second stops the node.
#[derive(Debug, Error)]
pub enum RegistryFailure<E> {
    /// A refusal, equal on every node.
    #[error(transparent)]
    Refused(#[from] RegistryError),
    /// The store below failed.
    #[error("reading or writing the registry's records")]
    Records(#[source] E),
}
