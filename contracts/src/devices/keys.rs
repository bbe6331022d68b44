//! State keys of devices.

use lamplighter_state::Key;
use lamplighter_types::{Device, DeviceState, HexBytes, Id, PublicKey, RegistrantLink, Scope};

use crate::tables::Table;

pub fn devices() -> Key<Device> {
    Key::table(Table::Device as u8)
}

pub fn device(device: &Id) -> Key<Device> {
    devices().id(device)
}

pub fn state(device: &Id) -> Key<DeviceState> {
    Key::table(Table::DeviceState as u8).id(device)
}

pub fn of_gateway(gateway: &Id) -> Key<Id> {
    Key::table(Table::DeviceByGateway as u8).id(gateway)
}

pub fn by_gateway(gateway: &Id, device: &Id) -> Key<Id> {
    of_gateway(gateway).id(device)
}

/// The devices of a district and of those below it: one part for each level.
pub fn in_district(district: &Scope) -> Key<Id> {
    let levels = district
        .as_str()
        .split('/')
        .filter(|level| !level.is_empty());
    levels.fold(Key::table(Table::DeviceByDistrict as u8), |key, level| {
        key.text(level)
    })
}

/// The index key of a device. An empty part ends the levels, so that a device is not taken for a
/// district below.
pub fn by_district(district: &Scope, device: &Id) -> Key<Id> {
    in_district(district).text("").id(device)
}

pub fn of_owner(owner: &Id) -> Key<Id> {
    Key::table(Table::DeviceByOwner as u8).id(owner)
}

pub fn by_owner(owner: &Id, device: &Id) -> Key<Id> {
    of_owner(owner).id(device)
}

pub fn by_key(key: &PublicKey) -> Key<Id> {
    Key::table(Table::DeviceByKey as u8).key(key)
}

/// A record of IOTRegistry, by the key that the original gave it. Those keys are text.
pub fn iotregistry(key: &[u8]) -> Key<HexBytes> {
    let table = Key::table(Table::IotRegistry as u8);
    key.iter().fold(table, |key, byte| key.byte(*byte))
}

pub fn registrant_link(registrant: &str) -> Key<RegistrantLink> {
    Key::table(Table::RegistrantLink as u8).text(registrant)
}
