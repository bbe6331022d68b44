//! Values of single resources, in each format that Things use. The response's Content-Format names
//! the format (LwM2M 1.1 core, section 7.4).

use super::cbor::{self, Cbor};
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
        Some(format::SENML_CBOR) => in_senml_cbor(&cbor::parse(payload)?, id),
        Some(format::CBOR) => value_from_cbor(&cbor::parse(payload)?),
        Some(format::SENML_JSON | format::LWM2M_JSON) => in_json(payload, id),
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

/// True if a name such as `/5/0/3` is that of the resource.
fn is_resource_name(name: &str, id: u16) -> bool {
    name.rsplit('/').next() == Some(id.to_string().as_str())
}

fn value_from_cbor(value: &Cbor<'_>) -> Option<ResourceValue> {
    match value {
        Cbor::Integer(number) => Some(ResourceValue::Integer(*number)),
        Cbor::Text(text) => Some(ResourceValue::Text(text.as_bytes().to_vec())),
        Cbor::Bytes(bytes) => Some(ResourceValue::Text(bytes.to_vec())),
        Cbor::Array(_) | Cbor::Map(_) | Cbor::Simple(_) => None,
    }
}

/// SenML in CBOR (RFC 8428): labels -2 base name, 0 name, 2 number, 3 text, 8 bytes.
fn in_senml_cbor(document: &Cbor<'_>, id: u16) -> Option<ResourceValue> {
    let Cbor::Array(records) = document else {
        return None;
    };
    let mut base = "";
    for record in records {
        let Cbor::Map(fields) = record else {
            return None;
        };
        let field = |label: i64| {
            let found = fields.iter().find(|(key, _)| *key == Cbor::Integer(label));
            found.map(|(_, value)| value)
        };
        let text = |label: i64| match field(label) {
            Some(Cbor::Text(text)) => Some(*text),
            _ => None,
        };
        base = text(-2).unwrap_or(base);
        if is_resource_name(&format!("{base}{}", text(0).unwrap_or_default()), id) {
            return [2, 3, 8]
                .into_iter()
                .find_map(field)
                .and_then(value_from_cbor);
        }
    }
    None
}

/// SenML in JSON (RFC 8428), and the JSON of LwM2M 1.0 with its records in `e`.
fn in_json(payload: &[u8], id: u16) -> Option<ResourceValue> {
    let document: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let text = |value: &serde_json::Value, name: &str| {
        let found = value.get(name).and_then(serde_json::Value::as_str);
        found.map(str::to_owned)
    };
    let mut base = text(&document, "bn").unwrap_or_default();
    let records = document.get("e").unwrap_or(&document).as_array()?;
    for record in records {
        base = text(record, "bn").unwrap_or(base);
        let name = format!("{base}{}", text(record, "n").unwrap_or_default());
        if !is_resource_name(&name, id) {
            continue;
        }
        if let Some(number) = record.get("v").and_then(serde_json::Value::as_f64) {
            return cbor::exact_integer(number).map(ResourceValue::Integer);
        }
        let words = text(record, "vs").or_else(|| text(record, "sv"));
        return words.map(|words| ResourceValue::Text(words.into_bytes()));
    }
    None
}

/// An integer resource: decimal text, or 1 to 8 bytes of two's complement.
pub fn integer(response: &Response, id: u16) -> Option<i64> {
    match resource(response, id)? {
        ResourceValue::Integer(number) => Some(number),
        ResourceValue::Text(text) => trim_padding(std::str::from_utf8(&text).ok()?).parse().ok(),
        ResourceValue::Binary(bytes) => {
            if !matches!(bytes.len(), 1 | 2 | 4 | 8) {
                return None;
            }
            let start = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
            let fold = |sum: i64, byte: &u8| sum << 8 | i64::from(*byte);
            Some(bytes.iter().fold(start, fold))
        }
    }
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
