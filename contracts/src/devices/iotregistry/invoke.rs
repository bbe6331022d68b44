//! The three operations: they register registrants, things and specs.

use prost::Message;

use super::error::argument_too_long;
use super::error::{RegistryError, RegistryFailure};
use super::message::{
    Alias, CreateRegistrant, RegisterSpec, RegisterThing, Registrant, Spec, Thing, alias_key,
    registrant_key, spec_key, thing_key,
};
use super::signature::{compress, parse_key, verify};
use super::{ALIASES_MAX, ARGUMENT_BYTES_MAX, NAME_BYTES_MAX, NONCE_BYTES_MAX, Records};

/// The record that an accepted operation added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Added by `createRegistrant`.
    Registrant {
        /// Lower-case hexadecimal of the compressed key.
        pubkey: String,
        /// The text of the operation.
        name: String,
    },
    /// Added by `registerThing`.
    Thing {
        /// Lower-case hexadecimal.
        nonce: String,
        /// The text of the operation.
        aliases: Vec<String>,
        /// Lower-case hexadecimal of the registrant's compressed key.
        registrant: String,
    },
    /// Added by `registerSpec`.
    Spec {
        /// The text of the operation.
        name: String,
        /// Lower-case hexadecimal of the registrant's compressed key.
        registrant: String,
    },
}

/// Executes an operation: `createRegistrant`, `registerThing` or `registerSpec`.
///
/// `argument` is the message in hexadecimal, in either case. Everything is checked before the first
/// record is written, so a refusal leaves the records as they were.
///
/// # Errors
/// [`RegistryFailure::Refused`] when the operation breaks a rule, [`RegistryFailure::Records`] when
/// the store fails.
pub fn invoke<R: Records>(
    function: &str,
    argument: &str,
    records: &mut R,
) -> Result<Registered, RegistryFailure<R::Error>> {
    let bytes = decode_hex(argument)?;
    match function {
        "createRegistrant" => create_registrant(decode(&bytes)?, records),
        "registerThing" => register_thing(decode(&bytes)?, records),
        "registerSpec" => register_spec(decode(&bytes)?, records),
        _ => Err(RegistryError::UnknownFunction.into()),
    }
}

fn create_registrant<R: Records>(
    message: CreateRegistrant,
    records: &mut R,
) -> Result<Registered, RegistryFailure<R::Error>> {
    let CreateRegistrant {
        registrant_name,
        registrant_pubkey,
        data,
        signature,
    } = message;
    not_empty("RegistrantName", registrant_name.as_bytes())?;
    not_empty("RegistrantPubkey", &registrant_pubkey)?;
    not_empty("Signature", &signature)?;
    at_most(
        "RegistrantName",
        registrant_name.len(),
        NAME_BYTES_MAX,
        "bytes",
    )?;
    seen("RegistrantName", &registrant_name)?;

    let key = parse_key(&registrant_pubkey)?;
    let compressed = compress(&key);
    let pubkey = hex::encode(&compressed);
    let record_key = registrant_key(&pubkey);
    if exists(records, &record_key)? {
        return Err(RegistryError::RegistrantExists.into());
    }
    verify(
        &key,
        &signature,
        &format!("{registrant_name}:{pubkey}:{data}"),
    )?;

    let name = registrant_name.clone();
    put(
        records,
        record_key,
        &Registrant {
            registrant_name,
            registrant_pubkey: compressed,
        },
    )?;
    Ok(Registered::Registrant { pubkey, name })
}

fn register_thing<R: Records>(
    message: RegisterThing,
    records: &mut R,
) -> Result<Registered, RegistryFailure<R::Error>> {
    let RegisterThing {
        nonce,
        aliases,
        registrant_pubkey,
        signature,
        data,
        spec,
    } = message;
    not_empty("RegistrantPubkey", registrant_pubkey.as_bytes())?;
    not_empty("Nonce", &nonce)?;
    not_empty("Signature", &signature)?;
    at_most("Nonce", nonce.len(), NONCE_BYTES_MAX, "bytes")?;
    at_most("Aliases", aliases.len(), ALIASES_MAX, "entries")?;
    for alias in &aliases {
        at_most("Aliases", alias.len(), NAME_BYTES_MAX, "bytes in one entry")?;
        seen("Aliases", alias)?;
    }

    seen("Spec", &spec)?;
    if exists(records, &thing_key(&nonce))? {
        return Err(RegistryError::NonceExists.into());
    }
    for alias in &aliases {
        if exists(records, &alias_key(alias))? {
            return Err(RegistryError::AliasExists {
                alias: alias.clone(),
            }
            .into());
        }
    }
    let mut signed = registrant_pubkey.clone();
    for part in aliases.iter().chain([&data, &spec]) {
        signed.push(':');
        signed.push_str(part);
    }
    verify_by_registrant(records, &registrant_pubkey, &signature, &signed)?;

    for alias in &aliases {
        put(
            records,
            alias_key(alias),
            &Alias {
                nonce: nonce.clone(),
            },
        )?;
    }
    let thing = Thing {
        aliases,
        registrant_pubkey,
        data,
        spec_name: spec,
    };
    put(records, thing_key(&nonce), &thing)?;
    let Thing {
        aliases,
        registrant_pubkey: registrant,
        data: _,
        spec_name: _,
    } = thing;
    Ok(Registered::Thing {
        nonce: hex::encode(nonce),
        aliases,
        registrant,
    })
}

fn register_spec<R: Records>(
    message: RegisterSpec,
    records: &mut R,
) -> Result<Registered, RegistryFailure<R::Error>> {
    let RegisterSpec {
        spec_name,
        registrant_pubkey,
        signature,
        data,
    } = message;
    not_empty("RegistrantPubkey", registrant_pubkey.as_bytes())?;
    not_empty("SpecName", spec_name.as_bytes())?;
    not_empty("Signature", &signature)?;
    at_most("SpecName", spec_name.len(), NAME_BYTES_MAX, "bytes")?;
    seen("SpecName", &spec_name)?;

    if exists(records, &spec_key(&spec_name))? {
        return Err(RegistryError::SpecExists.into());
    }
    let signed = format!("{spec_name}:{registrant_pubkey}:{data}");
    verify_by_registrant(records, &registrant_pubkey, &signature, &signed)?;

    let registrant = registrant_pubkey.clone();
    put(
        records,
        spec_key(&spec_name),
        &Spec {
            data,
            registrant_pubkey,
        },
    )?;
    Ok(Registered::Spec {
        name: spec_name,
        registrant,
    })
}

/// Verifies the signature of a registrant. It is looked up by the text as written, so a key in
/// upper case is unknown.
fn verify_by_registrant<R: Records>(
    records: &R,
    pubkey: &str,
    signature: &[u8],
    message: &str,
) -> Result<(), RegistryFailure<R::Error>> {
    if pubkey.len() > NAME_BYTES_MAX {
        return Err(RegistryError::UnknownRegistrant.into());
    }
    let record = records
        .get(&registrant_key(pubkey))
        .map_err(RegistryFailure::Records)?;
    let record = record.ok_or(RegistryError::UnknownRegistrant)?;
    let registrant =
        Registrant::decode(record.as_slice()).map_err(|_| RegistryError::DamagedRecord)?;
    let key = parse_key(&registrant.registrant_pubkey)?;
    Ok(verify(&key, signature, message)?)
}

fn decode_hex(argument: &str) -> Result<Vec<u8>, RegistryError> {
    if argument.len() > ARGUMENT_BYTES_MAX {
        return Err(argument_too_long());
    }
    hex::decode(argument).map_err(|_| RegistryError::NotHex)
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, RegistryError> {
    M::decode(bytes).map_err(|_| RegistryError::NotProtobuf)
}

/// Requires that people see every character of a name.
fn seen(field: &'static str, name: &str) -> Result<(), RegistryError> {
    if name.chars().any(lamplighter_types::is_unseen) {
        Err(RegistryError::Unseen { field })
    } else {
        Ok(())
    }
}

fn not_empty(field: &'static str, value: &[u8]) -> Result<(), RegistryError> {
    if value.is_empty() {
        Err(RegistryError::Empty { field })
    } else {
        Ok(())
    }
}

fn at_most(
    field: &'static str,
    count: usize,
    max: usize,
    unit: &'static str,
) -> Result<(), RegistryError> {
    if count > max {
        Err(RegistryError::TooLarge { field, max, unit })
    } else {
        Ok(())
    }
}

fn exists<R: Records>(records: &R, key: &[u8]) -> Result<bool, RegistryFailure<R::Error>> {
    Ok(records
        .get(key)
        .map_err(RegistryFailure::Records)?
        .is_some())
}

fn put<R: Records, M: Message>(
    records: &mut R,
    key: Vec<u8>,
    record: &M,
) -> Result<(), RegistryFailure<R::Error>> {
    records
        .put(key, record.encode_to_vec())
        .map_err(RegistryFailure::Records)
}
