//! Refusals of operations and queries.

use thiserror::Error;

use super::ARGUMENT_BYTES_MAX;
use crate::refusal::refusals;

refusals! {
    /// Why an operation or a query is refused. It depends on the argument and the records only, so
    /// it is the same on every node.
    pub enum RegistryError [] {
        /// No operation and no query has this name.
        UnknownFunction = "iotregistry.unknown_function",
            "IOTRegistry has no function of this name";
        /// The argument of an operation is not hexadecimal text.
        NotHex = "iotregistry.not_hex",
            "the argument is not hexadecimal";
        /// The bytes are no proto3 message of the function.
        NotProtobuf = "iotregistry.not_protobuf",
            "the argument is no message of this function";
        /// A field that must be there is missing or empty.
        Empty { field: &'static str } = "iotregistry.empty_field",
            "{field} is empty";
        /// A field is longer than the registry takes.
        TooLarge { field: &'static str, max: usize, unit: &'static str } = "iotregistry.too_large",
            "{field} has more than {max} {unit}";
        /// A name has a character that people do not see, or that controls a terminal.
        Unseen { field: &'static str } = "iotregistry.unseen_character",
            "{field} has a character that is not seen or controls a terminal";
        /// The registrant's key is no point of secp256k1 in a known form.
        BadKey = "iotregistry.bad_key",
            "the registrant's key is no point of secp256k1";
        /// The signature is no DER of two numbers in range.
        BadSignatureForm = "iotregistry.bad_signature_form",
            "the signature is not DER";
        /// The signature is not the registrant's over this message.
        WrongSignature = "iotregistry.wrong_signature",
            "the signature does not match the message and the registrant's key";
        /// A registrant has this key.
        RegistrantExists = "iotregistry.registrant_exists",
            "the registrant is there already";
        /// A thing has this nonce.
        NonceExists = "iotregistry.nonce_exists",
            "a thing with this nonce is there already";
        /// A thing has this alias.
        AliasExists { alias: String } = "iotregistry.alias_exists",
            "the alias {alias} is taken";
        /// A spec has this name.
        SpecExists = "iotregistry.spec_exists",
            "a spec of this name is there already";
        /// No registrant has this key, compared as text.
        UnknownRegistrant = "iotregistry.unknown_registrant",
            "the registrant is not known";
        /// The query found nothing.
        NotFound = "iotregistry.not_found",
            "there is no such record";
        /// A record of the state is not in the registry's form.
        DamagedRecord = "iotregistry.damaged_record",
            "the stored record is damaged";
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

/// The refusal of an argument above [`ARGUMENT_BYTES_MAX`].
pub(super) fn argument_too_long() -> RegistryError {
    RegistryError::TooLarge {
        field: "the argument",
        max: ARGUMENT_BYTES_MAX,
        unit: "bytes",
    }
}
