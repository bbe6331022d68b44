//! Queries of devices, for the edge and for other contracts.

use lamplighter_state::{Key, StateError};
use lamplighter_types::{Device, DeviceState, Id, PublicKey, RegistrantLink, Scope};

use super::keys;
use crate::Reader;

pub fn device(reader: &impl Reader, device: &Id) -> Result<Option<Device>, StateError> {
    reader.get(&keys::device(device))
}

/// Devices by their ids, in the order of the ids.
pub fn many(reader: &impl Reader, devices: &[Id]) -> Result<Vec<Option<Device>>, StateError> {
    let keys: Vec<_> = devices.iter().map(keys::device).collect();
    reader.get_many(&keys)
}

/// The running firmware of a device and the counters that it has used.
pub fn state(reader: &impl Reader, device: &Id) -> Result<Option<DeviceState>, StateError> {
    reader.get(&keys::state(device))
}

/// Devices by id, after the id `after`.
pub fn devices(
    reader: &impl Reader,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Device>, StateError> {
    let after = after.map(keys::device);
    reader.page(&keys::devices(), after.as_ref(), limit)
}

/// The devices of a gateway by id, after the id `after`.
pub fn by_gateway(
    reader: &impl Reader,
    gateway: &Id,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Device>, StateError> {
    let after = after.map(|after| keys::by_gateway(gateway, after));
    indexed(reader, &keys::of_gateway(gateway), after, limit)
}

/// The ids of the devices of a gateway, after the id `after`.
pub fn names_by_gateway(
    reader: &impl Reader,
    gateway: &Id,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Id>, StateError> {
    let after = after.map(|after| keys::by_gateway(gateway, after));
    reader.page(&keys::of_gateway(gateway), after.as_ref(), limit)
}

/// The ids of the devices of an organization, after the id `after`.
pub fn names_by_owner(
    reader: &impl Reader,
    owner: &Id,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Id>, StateError> {
    let after = after.map(|after| keys::by_owner(owner, after));
    reader.page(&keys::of_owner(owner), after.as_ref(), limit)
}

/// The devices of an organization by id, after the id `after`.
pub fn by_owner(
    reader: &impl Reader,
    owner: &Id,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Device>, StateError> {
    let after = after.map(|after| keys::by_owner(owner, after));
    indexed(reader, &keys::of_owner(owner), after, limit)
}

/// The devices of a district and of those below it, ordered by district and id, after the device
/// `after`; none if there is no such device.
pub fn in_district(
    reader: &impl Reader,
    district: &Scope,
    after: Option<&Id>,
    limit: usize,
) -> Result<Vec<Device>, StateError> {
    let after = match after {
        None => None,
        Some(after) => match device(reader, after)? {
            Some(after) => Some(keys::by_district(&after.district, &after.device)),
            None => return Ok(Vec::new()),
        },
    };
    indexed(reader, &keys::in_district(district), after, limit)
}

/// The device that has the key, in use or decommissioned.
pub fn by_key(reader: &impl Reader, key: &PublicKey) -> Result<Option<Device>, StateError> {
    match reader.get(&keys::by_key(key))? {
        Some(name) => device(reader, &name),
        None => Ok(None),
    }
}

/// The organization for which a registrant of IOTRegistry acts.
pub fn registrant_link(
    reader: &impl Reader,
    registrant: &str,
) -> Result<Option<RegistrantLink>, StateError> {
    reader.get(&keys::registrant_link(registrant))
}

fn indexed(
    reader: &impl Reader,
    prefix: &Key<Id>,
    after: Option<Key<Id>>,
    limit: usize,
) -> Result<Vec<Device>, StateError> {
    let names = reader.page(prefix, after.as_ref(), limit)?;
    let found = many(reader, &names)?.into_iter().zip(&names);
    let found = found.map(|(device, name)| {
        let missing = || StateError::Missing {
            what: format!("the device {name} of an index"),
        };
        device.ok_or_else(missing)
    });
    found.collect()
}
