//! Values of single resources, as text or as TLV (LwM2M 1.1 core, section 7.4): Things choose.

use crate::coap::{Code, Response, format};

/// Resources in one TLV document: an object instance has fewer.
const ENTRIES_MAX: usize = 64;

/// One entry of a TLV document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// 0 object instance, 1 resource instance, 2 multiple resource, 3 resource with value.
    pub kind: u8,
    /// Its number.
    pub id: u16,
    /// Its bytes; nested entries for kinds 0 and 2.
    pub value: &'a [u8],
}

/// Reads one level of a TLV document; `None` if it is malformed or has too many entries.
pub fn parse_tlv(mut bytes: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    while let Some((&head, rest)) = bytes.split_first() {
        if entries.len() >= ENTRIES_MAX {
            return None;
        }
        let (id, rest) = take_number(rest, if head & 0x20 == 0 { 1 } else { 2 })?;
        let (length, rest) = match (head >> 3) & 3 {
            0 => (usize::from(head & 7), rest),
            count => take_number(rest, usize::from(count))?,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        entries.push(Entry {
            kind: head >> 6,
            id: id as u16,
            value,
        });
        bytes = rest;
    }
    Some(entries)
}

/// The value of resource `id` in a response: the payload itself, or its entry in a TLV document.
fn resource(response: &Response, id: u16) -> Option<(&[u8], bool)> {
    if response.code != Code::CONTENT {
        return None;
    }
    if response.content_format != Some(format::LWM2M_TLV) {
        return Some((&response.payload, false));
    }
    let entries = parse_tlv(&response.payload)?;
    let found = entries.iter().find(|e| e.kind == 3 && e.id == id)?;
    Some((found.value, true))
}

/// An integer resource: decimal text, or 1 to 8 bytes of two's complement in TLV.
pub fn integer(response: &Response, id: u16) -> Option<i64> {
    let (value, tlv) = resource(response, id)?;
    if !tlv {
        return std::str::from_utf8(value).ok()?.trim().parse().ok();
    }
    if !matches!(value.len(), 1 | 2 | 4 | 8) {
        return None;
    }
    let negative = value[0] & 0x80 != 0;
    let start = if negative { -1 } else { 0 };
    Some(
        value
            .iter()
            .fold(start, |sum: i64, byte| sum << 8 | i64::from(*byte)),
    )
}

/// A text resource.
pub fn text(response: &Response, id: u16) -> Option<String> {
    let (value, _) = resource(response, id)?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}

/// An opaque resource.
pub fn opaque(response: &Response, id: u16) -> Option<Vec<u8>> {
    resource(response, id).map(|(value, _)| value.to_vec())
}

fn take_number(bytes: &[u8], count: usize) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_at_checked(count)?;
    Some((
        number
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        rest,
    ))
}
