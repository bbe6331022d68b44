//! Single resources with typed values: their paths, the formats in which they are written, and the
//! value of a response. LwM2M 1.1 core, section 7.4 and appendix C.

use std::fmt;
use std::str::FromStr;

use ciborium::Value;
use serde_json::{Value as Json, json};

use super::senml::{self, SenmlValue};
use super::value::{TlvEntry, parse_tlv, trim_padding};
use crate::coap::{Code, Response, format};

/// Digits after the point that two numbers share when they count as equal: a device may keep its
/// numbers in 32 bits.
const FLOAT_PRECISION: f64 = 1e-6;

/// The path of an object's instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstancePath {
    /// Number of the object.
    pub object: u16,
    /// Number of the instance.
    pub instance: u16,
}

/// The path of a resource, such as `/3311/0/5851`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourcePath {
    /// The instance that it belongs to.
    pub of: InstancePath,
    /// Number of the resource.
    pub resource: u16,
}

impl fmt::Display for InstancePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{}", self.object, self.instance)
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.of, self.resource)
    }
}

impl FromStr for ResourcePath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.strip_prefix('/').ok_or(())?.split('/');
        let mut number = || -> Result<u16, ()> {
            let digits = numbers.next().ok_or(())?;
            let number: u16 = digits.parse().map_err(|_| ())?;
            // 65535 is no number of anything (LwM2M 1.1 core, section 7.2); `07` is another text.
            let is_number = number != u16::MAX && number.to_string() == digits;
            is_number.then_some(number).ok_or(())
        };
        let (object, instance, resource) = (number()?, number()?, number()?);
        let path = ResourcePath {
            of: InstancePath { object, instance },
            resource,
        };
        numbers.next().is_none().then_some(path).ok_or(())
    }
}

/// A number with a fraction, compared by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Real(u64);

impl Real {
    /// The number; `None` if it is infinite or no number.
    pub fn new(number: f64) -> Option<Self> {
        number.is_finite().then(|| Self(number.to_bits()))
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// The value of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceValue {
    /// True or false.
    Boolean(bool),
    /// A number without a fraction, or a time in seconds.
    Integer(i64),
    /// Any other number.
    Float(Real),
    /// A text.
    Text(String),
    /// Bytes.
    Opaque(Vec<u8>),
}

impl fmt::Display for ResourceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResourceValue::Boolean(flag) => write!(f, "{flag}"),
            ResourceValue::Integer(number) => write!(f, "{number}"),
            ResourceValue::Float(number) => write!(f, "{}", number.get()),
            ResourceValue::Text(text) => write!(f, "{text:?}"),
            ResourceValue::Opaque(bytes) => write!(f, "{}", hex::encode(bytes)),
        }
    }
}

impl ResourceValue {
    /// True if both are the same to a device.
    pub fn is_same(&self, other: &ResourceValue) -> bool {
        match (self, other) {
            (ResourceValue::Float(one), ResourceValue::Float(other)) => {
                let (one, other) = (one.get(), other.get());
                (one - other).abs() <= FLOAT_PRECISION * one.abs().max(other.abs())
            }
            (ResourceValue::Text(one), ResourceValue::Text(other)) => {
                trim_padding(one) == trim_padding(other)
            }
            _ => self == other,
        }
    }

    /// The value as `text/plain`; `None` for bytes, which are not text.
    fn text(&self) -> Option<Vec<u8>> {
        Some(match self {
            ResourceValue::Boolean(flag) => u8::from(*flag).to_string().into_bytes(),
            ResourceValue::Text(text) => text.clone().into_bytes(),
            ResourceValue::Integer(_) | ResourceValue::Float(_) => self.to_string().into_bytes(),
            ResourceValue::Opaque(_) => return None,
        })
    }

    /// The bytes of the value in TLV.
    fn tlv(&self) -> Vec<u8> {
        match self {
            ResourceValue::Boolean(flag) => vec![u8::from(*flag)],
            ResourceValue::Integer(number) => shortest(*number),
            ResourceValue::Float(number) => number.get().to_be_bytes().to_vec(),
            ResourceValue::Text(text) => text.clone().into_bytes(),
            ResourceValue::Opaque(bytes) => bytes.clone(),
        }
    }

    /// Label and value of a SenML-CBOR record.
    fn senml_cbor(&self) -> (Value, Value) {
        let (label, value) = match self {
            ResourceValue::Integer(number) => (2, Value::from(*number)),
            ResourceValue::Float(number) => (2, Value::from(number.get())),
            ResourceValue::Text(text) => (3, Value::from(text.as_str())),
            ResourceValue::Boolean(flag) => (4, Value::from(*flag)),
            ResourceValue::Opaque(bytes) => (8, Value::Bytes(bytes.clone())),
        };
        (Value::from(label), value)
    }

    /// Name and value in a SenML-JSON record; `None` for bytes.
    fn senml_json(&self) -> Option<(&'static str, Json)> {
        Some(match self {
            ResourceValue::Integer(number) => ("v", json!(number)),
            ResourceValue::Float(number) => ("v", json!(number.get())),
            ResourceValue::Text(text) => ("vs", json!(text)),
            ResourceValue::Boolean(flag) => ("vb", json!(flag)),
            ResourceValue::Opaque(_) => return None,
        })
    }

    /// The value of the same type in a record of SenML.
    fn of_senml(&self, value: &SenmlValue) -> Option<ResourceValue> {
        Some(match (self, value) {
            (ResourceValue::Boolean(_), SenmlValue::Boolean(flag)) => ResourceValue::Boolean(*flag),
            (ResourceValue::Boolean(_), SenmlValue::Integer(number)) => {
                ResourceValue::Boolean(*number != 0)
            }
            (ResourceValue::Integer(_), SenmlValue::Integer(number)) => {
                ResourceValue::Integer(*number)
            }
            (ResourceValue::Float(_), SenmlValue::Integer(number)) => {
                ResourceValue::Float(Real::new(*number as f64)?)
            }
            (ResourceValue::Float(_), SenmlValue::Float(number)) => {
                ResourceValue::Float(Real::new(*number)?)
            }
            (ResourceValue::Text(_), SenmlValue::Text(text)) => ResourceValue::Text(text.clone()),
            (ResourceValue::Opaque(_), SenmlValue::Bytes(bytes)) => {
                ResourceValue::Opaque(bytes.clone())
            }
            _ => return None,
        })
    }

    /// The value of the same type in the bytes of TLV.
    pub(super) fn of_tlv(&self, bytes: &[u8]) -> Option<ResourceValue> {
        Some(match self {
            ResourceValue::Boolean(_) if bytes.len() == 1 => ResourceValue::Boolean(bytes[0] != 0),
            ResourceValue::Boolean(_) => return None,
            ResourceValue::Integer(_) => ResourceValue::Integer(two_complement(bytes)?),
            ResourceValue::Float(_) => ResourceValue::Float(Real::new(match bytes.len() {
                4 => f64::from(f32::from_be_bytes(bytes.try_into().ok()?)),
                8 => f64::from_be_bytes(bytes.try_into().ok()?),
                _ => return None,
            })?),
            ResourceValue::Text(_) => ResourceValue::Text(String::from_utf8(bytes.to_vec()).ok()?),
            ResourceValue::Opaque(_) => ResourceValue::Opaque(bytes.to_vec()),
        })
    }

    /// The value of the same type in `text/plain`, or in bytes.
    fn of_text(&self, payload: &[u8], is_bytes: bool) -> Option<ResourceValue> {
        if let ResourceValue::Opaque(_) = self {
            // In text it would be base64, of which a device has several spellings.
            return is_bytes.then(|| ResourceValue::Opaque(payload.to_vec()));
        }
        let text = trim_padding(std::str::from_utf8(payload).ok()?);
        Some(match self {
            ResourceValue::Boolean(_) => ResourceValue::Boolean(match text {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return None,
            }),
            ResourceValue::Integer(_) => ResourceValue::Integer(text.parse().ok()?),
            ResourceValue::Float(_) => ResourceValue::Float(Real::new(text.parse().ok()?)?),
            ResourceValue::Text(_) | ResourceValue::Opaque(_) => {
                ResourceValue::Text(text.to_owned())
            }
        })
    }
}

/// A resource and the value that it has or shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The resource.
    pub path: ResourcePath,
    /// The value.
    pub value: ResourceValue,
}

/// The value of a resource in a response to a read of it alone, of the same type as `like`.
pub fn read(
    response: &Response,
    path: ResourcePath,
    like: &ResourceValue,
) -> Option<ResourceValue> {
    if response.code != Code::CONTENT {
        return None;
    }
    let payload = &response.payload;
    match response.content_format {
        Some(format::LWM2M_TLV | format::LWM2M_TLV_OLD) => {
            like.of_tlv(find_tlv(&parse_tlv(payload)?, path.resource)?)
        }
        Some(format::SENML_CBOR | format::SENML_JSON | format::LWM2M_JSON) => {
            let records = records(response)?;
            like.of_senml(senml::resource(&records, path.resource)?)
        }
        Some(format::CBOR) => like.of_senml(&senml::value_of(&senml::parse_cbor(payload)?)?),
        other => like.of_text(payload, other == Some(format::OCTETS)),
    }
}

/// The values of a response to a Read-Composite, in the order of `wanted`; `None` where the
/// response has no such value.
pub fn read_all(response: &Response, wanted: &[Resource]) -> Option<Vec<Option<ResourceValue>>> {
    if response.code != Code::CONTENT {
        return None;
    }
    let records = records(response)?;
    let value_of = |resource: &Resource| {
        let name = resource.path.to_string();
        let record = records.iter().find(|record| record.name == name)?;
        resource.value.of_senml(record.value.as_ref()?)
    };
    Some(wanted.iter().map(value_of).collect())
}

fn records(response: &Response) -> Option<Vec<senml::SenmlRecord>> {
    match response.content_format? {
        format::SENML_CBOR => senml::from_cbor(&response.payload),
        format::SENML_JSON | format::LWM2M_JSON => senml::from_json(&response.payload),
        _ => None,
    }
}

/// The bytes of a resource, at the top or inside an object instance.
fn find_tlv<'a>(entries: &[TlvEntry<'a>], resource: u16) -> Option<&'a [u8]> {
    let wanted = |entry: &&TlvEntry<'a>| entry.kind == 3 && entry.id == resource;
    if let Some(entry) = entries.iter().find(wanted) {
        return Some(entry.value);
    }
    let instance = entries.iter().find(|entry| entry.kind == 0)?;
    let inside = parse_tlv(instance.value)?;
    inside.iter().find(wanted).map(|entry| entry.value)
}

/// One resource's value in a format, for a Write of this resource; `None` if the format can't have
/// it.
pub fn write_one(resource: &Resource, content_format: u16) -> Option<Vec<u8>> {
    match (content_format, &resource.value) {
        (format::TEXT, value) => value.text(),
        (format::OCTETS, ResourceValue::Opaque(bytes)) => Some(bytes.clone()),
        (format::OCTETS, _) => None,
        _ => write_all(std::slice::from_ref(resource), content_format),
    }
}

/// Several values in a format, for a partial update of their instance or a Write-Composite.
pub fn write_all(resources: &[Resource], content_format: u16) -> Option<Vec<u8>> {
    match content_format {
        format::LWM2M_TLV => {
            let entry = |r: &Resource| tlv_entry(3, r.path.resource, &r.value.tlv());
            Some(resources.iter().flat_map(entry).collect())
        }
        format::SENML_CBOR => {
            let record = |resource: &Resource| {
                let name = (Value::from(0), Value::from(resource.path.to_string()));
                Value::Map(vec![name, resource.value.senml_cbor()])
            };
            cbor(&Value::Array(resources.iter().map(record).collect()))
        }
        format::SENML_JSON => {
            let record = |resource: &Resource| {
                let (name, value) = resource.value.senml_json()?;
                Some(json!({"n": resource.path.to_string(), name: value}))
            };
            let records: Option<Vec<Json>> = resources.iter().map(record).collect();
            Some(Json::from(records?).to_string().into_bytes())
        }
        _ => None,
    }
}

/// The values of an instance that shall be created, with its number.
pub fn create(instance: InstancePath, values: &[Resource], content_format: u16) -> Option<Vec<u8>> {
    let values = write_all(values, content_format)?;
    Some(match content_format {
        format::LWM2M_TLV => tlv_entry(0, instance.instance, &values),
        _ => values,
    })
}

/// The names of resources, for a Read-Composite.
pub fn names(paths: impl Iterator<Item = String>, content_format: u16) -> Option<Vec<u8>> {
    match content_format {
        format::SENML_CBOR => {
            let record = |path| Value::Map(vec![(Value::from(0), Value::from(path))]);
            cbor(&Value::Array(paths.map(record).collect()))
        }
        format::SENML_JSON => {
            let records: Vec<Json> = paths.map(|path| json!({ "n": path })).collect();
            Some(Json::from(records).to_string().into_bytes())
        }
        _ => None,
    }
}

fn cbor(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).ok()?;
    Some(bytes)
}

/// One entry of TLV, with the shortest head.
fn tlv_entry(kind: u8, id: u16, value: &[u8]) -> Vec<u8> {
    let mut head = kind << 6;
    let id = match u8::try_from(id) {
        Ok(id) => vec![id],
        Err(_) => {
            head |= 0x20;
            id.to_be_bytes().to_vec()
        }
    };
    let length = (value.len() as u32).to_be_bytes();
    let length = match value.len() {
        0..=7 => {
            head |= value.len() as u8;
            &length[4..]
        }
        8..=0xFF => {
            head |= 1 << 3;
            &length[3..]
        }
        0x100..=0xFFFF => {
            head |= 2 << 3;
            &length[2..]
        }
        _ => {
            head |= 3 << 3;
            &length[1..]
        }
    };
    [&[head][..], &id, length, value].concat()
}

/// 1, 2, 4 or 8 bytes of two's complement.
fn shortest(number: i64) -> Vec<u8> {
    if let Ok(number) = i8::try_from(number) {
        return number.to_be_bytes().to_vec();
    }
    if let Ok(number) = i16::try_from(number) {
        return number.to_be_bytes().to_vec();
    }
    match i32::try_from(number) {
        Ok(number) => number.to_be_bytes().to_vec(),
        Err(_) => number.to_be_bytes().to_vec(),
    }
}

fn two_complement(bytes: &[u8]) -> Option<i64> {
    if !matches!(bytes.len(), 1 | 2 | 4 | 8) {
        return None;
    }
    let start = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
    let fold = |sum: i64, byte: &u8| sum << 8 | i64::from(*byte);
    Some(bytes.iter().fold(start, fold))
}
