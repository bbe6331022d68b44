//! The three queries: owner, thing and spec.

use prost::Message;

use super::error::argument_too_long;
use super::error::{RegistryError, RegistryFailure};
use super::json::Object;
use super::message::{
    Alias, Registrant, Spec, Thing, alias_key, registrant_key, spec_key, thing_key,
};
use super::{ARGUMENT_BYTES_MAX, Records};

/// Answers a query: `owner` by hexadecimal compressed key, `thing` by alias, `spec` by name. The
/// reply is JSON; of a thing and a spec, empty fields are left out.
///
/// # Errors
/// [`RegistryFailure::Refused`] when there is no such query or record, [`RegistryFailure::Records`]
/// when the store fails.
pub fn query<R: Records>(
    function: &str,
    argument: &str,
    records: &R,
) -> Result<String, RegistryFailure<R::Error>> {
    if argument.len() > ARGUMENT_BYTES_MAX {
        return Err(argument_too_long().into());
    }
    match function {
        "owner" => owner(argument, records),
        "thing" => thing(argument, records),
        "spec" => spec(argument, records),
        _ => Err(RegistryError::UnknownFunction.into()),
    }
}

fn owner<R: Records>(pubkey: &str, records: &R) -> Result<String, RegistryFailure<R::Error>> {
    let Registrant {
        registrant_name,
        registrant_pubkey,
    } = read(records, &registrant_key(pubkey))?;
    Ok(Object::new()
        .text("RegistrantName", &registrant_name)
        .text("Pubkey", &hex::encode(registrant_pubkey))
        .finish())
}

fn thing<R: Records>(alias: &str, records: &R) -> Result<String, RegistryFailure<R::Error>> {
    let Alias { nonce } = read(records, &alias_key(alias))?;
    let thing: Thing = read(records, &thing_key(&nonce))?;
    let Thing {
        aliases,
        registrant_pubkey,
        data,
        spec_name,
    } = thing;
    Ok(Object::new()
        .list_if_any("Aliases", &aliases)
        .text_if_any("RegistrantPubkey", &registrant_pubkey)
        .text_if_any("Data", &data)
        .text_if_any("SpecName", &spec_name)
        .finish())
}

fn spec<R: Records>(name: &str, records: &R) -> Result<String, RegistryFailure<R::Error>> {
    let Spec {
        data,
        registrant_pubkey,
    } = read(records, &spec_key(name))?;
    Ok(Object::new()
        .text_if_any("RegistrantPubkey", &registrant_pubkey)
        .text_if_any("Data", &data)
        .finish())
}

fn read<R: Records, M: Message + Default>(
    records: &R,
    key: &[u8],
) -> Result<M, RegistryFailure<R::Error>> {
    let record = records
        .get(key)
        .map_err(RegistryFailure::Records)?
        .ok_or(RegistryError::NotFound)?;
    Ok(M::decode(record.as_slice()).map_err(|_| RegistryError::DamagedRecord)?)
}
