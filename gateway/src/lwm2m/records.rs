//! All values of a response about an object, an instance or a resource, with their names.

use super::senml::{self, SenmlRecord, SenmlValue};
use super::value::{TlvEntry, parse_tlv};
use crate::coap::{Code, Response, format};

/// Resources of the observed objects whose value is a text (IPSO: unit, application type, ...).
const TEXTS: [u16; 6] = [5701, 5706, 5750, 5514, 5515, 5527];
/// Resources whose value is true or false (states and polarities, on and off).
const BOOLEANS: [u16; 5] = [5500, 5502, 5550, 5551, 5850];
/// Resources whose value is an integer though most of these objects have numbers with a fraction.
const INTEGERS: [u16; 5] = [5501, 5503, 5534, 5851, 5852];

/// Reads the values of a response about a path such as `3311`, `0`; `None` if it is malformed or in
/// another format than SenML and TLV.
pub fn records(response: &Response, path: &[&str]) -> Option<Vec<SenmlRecord>> {
    if response.code != Code::CONTENT {
        return None;
    }
    match response.content_format? {
        format::SENML_CBOR => senml::from_cbor(&response.payload),
        format::SENML_JSON | format::LWM2M_JSON => senml::from_json(&response.payload),
        format::LWM2M_TLV | format::LWM2M_TLV_OLD => {
            let mut records = Vec::new();
            let base = format!("/{}", path.join("/"));
            let resource = path.get(2).and_then(|id| id.parse().ok());
            read_tlv(&response.payload, &base, resource, &mut records)?;
            Some(records)
        }
        _ => None,
    }
}

/// Reads one level of TLV below a name. Levels are at most three: instance, resource and resource
/// instance.
fn read_tlv(
    bytes: &[u8],
    base: &str,
    resource: Option<u16>,
    records: &mut Vec<SenmlRecord>,
) -> Option<()> {
    for TlvEntry { kind, id, value } in parse_tlv(bytes)? {
        let name = match resource {
            // The response is about a resource, which it repeats.
            Some(of) if of == id && kind >= 2 => base.to_owned(),
            _ => format!("{base}/{id}"),
        };
        match kind {
            0 | 2 if name.matches('/').count() > 4 => return None,
            0 => read_tlv(value, &name, None, records)?,
            2 => {
                for instance in parse_tlv(value)?.iter().filter(|entry| entry.kind == 1) {
                    records.push(SenmlRecord {
                        name: format!("{name}/{}", instance.id),
                        value: Some(typed(id, instance.value)),
                    });
                }
            }
            _ => records.push(SenmlRecord {
                name,
                value: Some(typed(id, value)),
            }),
        }
    }
    Some(())
}

/// The value of a resource of the observed objects; TLV does not tell its type.
fn typed(resource: u16, bytes: &[u8]) -> SenmlValue {
    if TEXTS.contains(&resource) {
        return SenmlValue::Text(String::from_utf8_lossy(bytes).into_owned());
    }
    let integer = || {
        let start = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
        let fold = |sum: i64, byte: &u8| sum << 8 | i64::from(*byte);
        SenmlValue::Integer(bytes.iter().fold(start, fold))
    };
    match bytes.len() {
        1 if BOOLEANS.contains(&resource) => SenmlValue::Boolean(bytes[0] != 0),
        1 | 2 => integer(),
        4 | 8 if INTEGERS.contains(&resource) => integer(),
        4 => {
            let number = f32::from_be_bytes(bytes.try_into().expect("four bytes"));
            float(f64::from(number), bytes)
        }
        8 => float(
            f64::from_be_bytes(bytes.try_into().expect("eight bytes")),
            bytes,
        ),
        _ => SenmlValue::Bytes(bytes.to_vec()),
    }
}

/// A number, or the bytes of one that JSON can't have.
fn float(number: f64, bytes: &[u8]) -> SenmlValue {
    if number.is_finite() {
        senml::number_of(number)
    } else {
        SenmlValue::Bytes(bytes.to_vec())
    }
}
