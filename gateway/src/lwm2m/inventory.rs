//! What a device says about itself in standard objects: server (1), device (3), connectivity (4),
//! location (6) and software components (9).

use std::ops::RangeInclusive;

use super::resource::{InstancePath, Real, ResourceValue};
use super::senml::{self, SenmlRecord, SenmlValue};
use super::value::parse_tlv;
use crate::coap::{Code, Response, format};

/// The objects that are read.
pub const OBJECTS: [u16; 5] = [1, 3, 4, 6, 9];
/// Instances of one device that are read: the first of each object, and some software components.
pub const INSTANCES_MAX: usize = 12;
/// Values of one device that are kept.
pub const VALUES_MAX: usize = 96;
/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 200;
/// Resources of object 3 that seldom change: maker, model, serial number, firmware version, device
/// type, versions of hardware and software.
const DEVICE_FACTS: [u16; 7] = [0, 1, 2, 3, 17, 18, 19];

/// A value with its path, such as `/3/0/0` or, of a resource with several instances, `/3/0/7/1`.
pub type NamedValue = (String, ResourceValue);

/// True if a value is worth an event of its own when it changes: what a device is, not how it does.
pub fn is_fact(path: &str) -> bool {
    let mut numbers = path.split('/').skip(1).map(str::parse::<u16>);
    let mut number = || numbers.next()?.ok();
    match (number(), number(), number()) {
        (Some(3), Some(_), Some(resource)) => DEVICE_FACTS.contains(&resource),
        // Where it stands.
        (Some(6), Some(_), Some(resource)) => resource < 2,
        // Name, version and whether it is installed and active.
        (Some(9), Some(_), Some(resource)) => matches!(resource, 0 | 1 | 7 | 12),
        _ => false,
    }
}

/// The values of an instance in a response to a read of it, or to a Read-Composite if there is no
/// instance; `None` if the response has none that can be read.
pub fn values(response: &Response, instance: Option<InstancePath>) -> Option<Vec<NamedValue>> {
    if response.code != Code::CONTENT {
        return None;
    }
    let payload = &response.payload;
    let values = match response.content_format? {
        format::SENML_CBOR => senml::from_cbor(payload)?
            .iter()
            .filter_map(named)
            .collect(),
        format::SENML_JSON | format::LWM2M_JSON => senml::from_json(payload)?
            .iter()
            .filter_map(named)
            .collect(),
        format::LWM2M_TLV | format::LWM2M_TLV_OLD => in_tlv(payload, instance?)?,
        _ => return None,
    };
    Some(values)
}

fn named(record: &SenmlRecord) -> Option<NamedValue> {
    let value = match record.value.as_ref()? {
        SenmlValue::Integer(number) => ResourceValue::Integer(*number),
        SenmlValue::Float(number) => ResourceValue::Float(Real::new(*number)?),
        SenmlValue::Boolean(flag) => ResourceValue::Boolean(*flag),
        SenmlValue::Text(text) => cut(text),
        // Nothing that these objects have is bytes.
        SenmlValue::Bytes(_) => return None,
    };
    is_path(&record.name).then(|| (record.name.clone(), value))
}

/// True for `/3/0/0` and `/3/0/7/1`.
fn is_path(name: &str) -> bool {
    let mut parts = name.split('/');
    let is_absolute = parts.next() == Some("");
    let numbers: Vec<_> = parts.map(str::parse::<u16>).collect();
    is_absolute && matches!(numbers.len(), 3 | 4) && numbers.iter().all(Result::is_ok)
}

fn cut(text: &str) -> ResourceValue {
    ResourceValue::Text(crate::text::sanitize(text, TEXT_BYTES_MAX))
}

fn in_tlv(bytes: &[u8], instance: InstancePath) -> Option<Vec<NamedValue>> {
    let mut entries = parse_tlv(bytes)?;
    if let Some(inside) = entries.iter().find(|entry| entry.kind == 0) {
        entries = parse_tlv(inside.value)?;
    }
    let mut values = Vec::new();
    for entry in entries {
        let path = format!("{instance}/{}", entry.id);
        let typed = |bytes| typed(instance.object, entry.id, bytes);
        match entry.kind {
            2 => {
                let inside = parse_tlv(entry.value)?;
                let inside = inside.iter().filter(|one| one.kind == 1);
                let named = inside
                    .filter_map(|one| Some((format!("{path}/{}", one.id), typed(one.value)?)));
                values.extend(named);
            }
            3 => values.extend(typed(entry.value).map(|value| (path, value))),
            _ => {}
        }
    }
    Some(values)
}

/// The value of a resource; TLV does not tell its type.
fn typed(object: u16, resource: u16, bytes: &[u8]) -> Option<ResourceValue> {
    const DEVICE_TEXTS: [RangeInclusive<u16>; 3] = [0..=3, 14..=19, 23..=23];
    let of = |like: ResourceValue| like.of_tlv(bytes);
    match (object, resource) {
        (3, resource) if DEVICE_TEXTS.iter().any(|texts| texts.contains(&resource)) => text(bytes),
        (1, 7) | (4, 4 | 5 | 7) | (9, 0 | 1) => text(bytes),
        (1, 6) | (9, 12) => of(ResourceValue::Boolean(false)),
        (6, 0..=3 | 6) => of(ResourceValue::Float(Real::new(0.0)?)),
        (1 | 3 | 4, _) | (6, 5) | (9, 7 | 9) => of(ResourceValue::Integer(0)),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> Option<ResourceValue> {
    Some(cut(std::str::from_utf8(bytes).ok()?))
}
