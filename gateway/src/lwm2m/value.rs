//! Values of single resources, in each format that Things use. The response's Content-Format names
//! the format (LwM2M 1.1 core, section 7.4).

use super::senml::{self, SenmlRecord, SenmlValue};
use crate::coap::{Code, Response, format};

/// Resources in one TLV document: an object instance has fewer.
const ENTRIES_MAX: usize = 64;
/// The formats that a read asks for, in order, while the Thing refuses them: plain text first, then
/// the Thing's own choice, then formats that some Things only give when asked for them.
pub const ACCEPTS: [Option<u16>; 5] = [
    Some(format::TEXT),
    None,
    Some(format::LWM2M_TLV),
    Some(format::SENML_CBOR),
    Some(format::SENML_JSON),
];

/// One entry of a TLV document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlvEntry<'a> {
    /// 0 object instance, 1 resource instance, 2 multiple resource, 3 resource with value.
    pub kind: u8,
    /// Its number.
    pub id: u16,
    /// Its bytes; nested entries for kinds 0 and 2.
    pub value: &'a [u8],
}

/// Reads one level of a TLV document; `None` if it is malformed or has too many entries.
pub fn parse_tlv(mut bytes: &[u8]) -> Option<Vec<TlvEntry<'_>>> {
    let mut entries = Vec::new();
    while let Some((&head, rest)) = bytes.split_first() {
        if entries.len() >= ENTRIES_MAX {
            return None;
        }
        let (id, rest) = read_number(rest, if head & 0x20 == 0 { 1 } else { 2 })?;
        let (length, rest) = match (head >> 3) & 3 {
            0 => (usize::from(head & 7), rest),
            count => read_number(rest, usize::from(count))?,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        entries.push(TlvEntry {
            kind: head >> 6,
            id: id as u16,
            value,
        });
        bytes = rest;
    }
    Some(entries)
}

/// A TLV document of one resource with a text of at most 64 KiB.
pub fn tlv_text(id: u8, text: &str) -> Vec<u8> {
    let length = text.len() as u16;
    let head = match u8::try_from(length) {
        Ok(length) => vec![0xC8, id, length],
        Err(_) => [&[0xD0, id][..], &length.to_be_bytes()].concat(),
    };
    [&head[..], text.as_bytes()].concat()
}

/// The value of a resource as a document encodes it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ResourceValue {
    /// Decimal digits or other text.
    Text(Vec<u8>),
    /// Two's complement or text; the reader must know which.
    Binary(Vec<u8>),
    Integer(i64),
}

/// The value of resource `id` in a response.
fn resource(response: &Response, id: u16) -> Option<ResourceValue> {
    if response.code != Code::CONTENT {
        return None;
    }
    let payload = &response.payload;
    match response.content_format {
        Some(format::LWM2M_TLV | format::LWM2M_TLV_OLD) => in_tlv(payload, id),
        Some(format::SENML_CBOR) => in_senml(&senml::from_cbor(payload)?, id),
        Some(format::CBOR) => from_senml(&senml::value_of(&senml::parse_cbor(payload)?)?),
        Some(format::SENML_JSON | format::LWM2M_JSON) => in_senml(&senml::from_json(payload)?, id),
        _ => Some(ResourceValue::Text(payload.clone())),
    }
}

/// Finds the resource at the top, or inside an object instance, which some devices add.
fn in_tlv(bytes: &[u8], id: u16) -> Option<ResourceValue> {
    let wanted = |entry: &TlvEntry<'_>| entry.kind == 3 && entry.id == id;
    let entries = parse_tlv(bytes)?;
    if let Some(entry) = entries.iter().find(|entry| wanted(entry)) {
        return Some(ResourceValue::Binary(entry.value.to_vec()));
    }
    let instances = entries.iter().filter(|entry| entry.kind == 0);
    instances
        .filter_map(|instance| parse_tlv(instance.value))
        .flatten()
        .find(|entry| wanted(entry))
        .map(|entry| ResourceValue::Binary(entry.value.to_vec()))
}

fn in_senml(records: &[SenmlRecord], id: u16) -> Option<ResourceValue> {
    from_senml(senml::resource(records, id)?)
}

fn from_senml(value: &SenmlValue) -> Option<ResourceValue> {
    Some(match value {
        SenmlValue::Integer(number) => ResourceValue::Integer(*number),
        SenmlValue::Text(text) => ResourceValue::Text(text.as_bytes().to_vec()),
        SenmlValue::Bytes(bytes) => ResourceValue::Text(bytes.clone()),
        SenmlValue::Float(_) | SenmlValue::Boolean(_) => return None,
    })
}

/// An integer resource: decimal text, or 1 to 8 bytes of two's complement.
pub fn integer(response: &Response, id: u16) -> Option<i64> {
    match resource(response, id)? {
        ResourceValue::Integer(number) => Some(number),
        ResourceValue::Text(text) => trim_padding(std::str::from_utf8(&text).ok()?).parse().ok(),
        ResourceValue::Binary(bytes) => two_complement(&bytes),
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

/// All instances of an integer resource, or its only value.
pub fn integers(response: &Response, id: u16) -> Option<Vec<i64>> {
    if response.code != Code::CONTENT {
        return None;
    }
    let payload = &response.payload;
    match response.content_format {
        Some(format::LWM2M_TLV | format::LWM2M_TLV_OLD) => integers_in_tlv(payload, id),
        Some(format::SENML_CBOR) => {
            let records = senml::from_cbor(payload)?;
            Some(senml::integers(&records, id))
        }
        Some(format::SENML_JSON | format::LWM2M_JSON) => {
            let records = senml::from_json(payload)?;
            Some(senml::integers(&records, id))
        }
        _ => integer(response, id).map(|number| vec![number]),
    }
}

/// The instances in a multiple resource (kind 2), or the value of a single one; either may be
/// inside an object instance.
fn integers_in_tlv(bytes: &[u8], id: u16) -> Option<Vec<i64>> {
    let mut entries = parse_tlv(bytes)?;
    let instances = entries.iter().filter(|entry| entry.kind == 0);
    let inside: Option<Vec<_>> = instances.map(|one| parse_tlv(one.value)).collect();
    entries.extend(inside?.into_iter().flatten());
    let wanted = entries.iter().find(|e| e.id == id && e.kind >= 2)?;
    if wanted.kind == 3 {
        return Some(vec![two_complement(wanted.value)?]);
    }
    let values = parse_tlv(wanted.value)?;
    values.iter().map(|one| two_complement(one.value)).collect()
}

/// The text without blanks around it, and without the NUL bytes that some devices add.
pub fn trim_padding(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

/// A text resource.
pub fn text(response: &Response, id: u16) -> Option<String> {
    match resource(response, id)? {
        ResourceValue::Text(bytes) | ResourceValue::Binary(bytes) => String::from_utf8(bytes).ok(),
        ResourceValue::Integer(number) => Some(number.to_string()),
    }
}

fn read_number(bytes: &[u8], count: usize) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_at_checked(count)?;
    let fold = |sum, byte: &u8| sum << 8 | usize::from(*byte);
    Some((number.iter().fold(0, fold), rest))
}
