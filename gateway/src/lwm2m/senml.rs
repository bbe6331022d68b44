//! SenML (RFC 8428) in CBOR and JSON, and the JSON of LwM2M 1.0: lists of named values. Everything
//! is bounded by the bytes of one message and [`RECORDS_MAX`].

use ciborium::Value;
use serde_json::Value as Json;

/// Records of one document: a Thing has fewer values.
pub const RECORDS_MAX: usize = 512;

/// A value of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum SenmlValue {
    /// A number without a fraction.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A text, or a link to an object.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A value with its resolved name.
#[derive(Debug, Clone, PartialEq)]
pub struct SenmlRecord {
    /// Such as `/3311/0/5851`.
    pub name: String,
    /// None: the record only names a resource, as in a composite read.
    pub value: Option<SenmlValue>,
}

/// Names and values as a record has them.
#[derive(Default)]
struct Fields {
    base_name: Option<String>,
    name: Option<String>,
    value: Option<SenmlValue>,
}

/// Reads a document of `application/senml+cbor`; `None` if it is malformed or too long.
pub fn from_cbor(bytes: &[u8]) -> Option<Vec<SenmlRecord>> {
    let document: Value = parse_cbor(bytes)?;
    let records = document.as_array()?;
    resolve(
        records.iter().map(cbor_fields),
        records.len(),
        String::new(),
    )
}

/// Reads one item of CBOR; `None` if it is malformed or followed by other bytes.
pub fn parse_cbor(mut bytes: &[u8]) -> Option<Value> {
    let value = ciborium::from_reader(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}

/// Reads a document of `application/senml+json`, or of the JSON of LwM2M 1.0, whose records are in
/// `e`.
pub fn from_json(bytes: &[u8]) -> Option<Vec<SenmlRecord>> {
    let document: Json = serde_json::from_slice(bytes).ok()?;
    let base = document
        .get("bn")
        .and_then(Json::as_str)
        .unwrap_or_default();
    let records = document.get("e").unwrap_or(&document).as_array()?;
    let fields = records.iter().map(json_fields);
    resolve(fields, records.len(), base.to_owned())
}

/// The value of a single CBOR item.
pub fn value_of(value: &Value) -> Option<SenmlValue> {
    Some(match value {
        Value::Integer(number) => SenmlValue::Integer(i64::try_from(*number).ok()?),
        Value::Float(number) => number_of(*number),
        Value::Text(text) => SenmlValue::Text(text.clone()),
        Value::Bytes(bytes) => SenmlValue::Bytes(bytes.clone()),
        Value::Bool(flag) => SenmlValue::Boolean(*flag),
        Value::Tag(_, inside) => value_of(inside)?,
        _ => return None,
    })
}

/// The first value whose name ends with this resource, as `/5/0/3` or, below a base name, `3`.
pub fn resource(records: &[SenmlRecord], id: u16) -> Option<&SenmlValue> {
    let id = id.to_string();
    let named = |record: &&SenmlRecord| record.name.rsplit('/').next() == Some(&*id);
    records.iter().find(named)?.value.as_ref()
}

/// The integers of a resource, or of its instances, as `/5/0/8` or `/5/0/8/1`.
pub fn integers(records: &[SenmlRecord], id: u16) -> Vec<i64> {
    let id = id.to_string();
    let of_resource = |record: &&SenmlRecord| {
        let segments = record.name.split('/').filter(|part| !part.is_empty());
        let segments: Vec<&str> = segments.collect();
        match segments.len() {
            0 => false,
            // Without its object: the resource, or the resource and the instance.
            1 | 2 => segments[0] == id,
            _ => segments[2] == id,
        }
    };
    let values = records.iter().filter(of_resource);
    values
        .filter_map(|record| match record.value {
            Some(SenmlValue::Integer(number)) => Some(number),
            _ => None,
        })
        .collect()
}

fn resolve(
    records: impl Iterator<Item = Option<Fields>>,
    count: usize,
    mut base: String,
) -> Option<Vec<SenmlRecord>> {
    if count > RECORDS_MAX {
        return None;
    }
    let mut resolved = Vec::with_capacity(count);
    for fields in records {
        let fields = fields?;
        base = fields.base_name.unwrap_or(base);
        let name = format!("{base}{}", fields.name.unwrap_or_default());
        let value = fields.value;
        resolved.push(SenmlRecord { name, value });
    }
    Some(resolved)
}

/// The labels of RFC 8428: -2 base name, 0 name, 2 number, 3 text, 4 boolean, 8 bytes.
fn cbor_fields(record: &Value) -> Option<Fields> {
    let mut fields = Fields::default();
    for (label, value) in record.as_map()? {
        let text = || value.as_text().map(str::to_owned);
        match label
            .as_integer()
            .and_then(|label| i64::try_from(label).ok())
        {
            Some(-2) => fields.base_name = Some(text()?),
            Some(0) => fields.name = Some(text()?),
            Some(2 | 3 | 4 | 8) => fields.value = Some(value_of(value)?),
            // `vlo` of LwM2M has a text as its label.
            _ if label.as_text() == Some("vlo") => fields.value = Some(value_of(value)?),
            _ => {}
        }
    }
    Some(fields)
}

fn json_fields(record: &Json) -> Option<Fields> {
    let text = |name: &str| record.get(name).and_then(Json::as_str).map(str::to_owned);
    let flag = |name: &str| record.get(name).and_then(Json::as_bool);
    let number = record.get("v").map(|value| match value.as_i64() {
        Some(number) => Some(SenmlValue::Integer(number)),
        None => value.as_f64().map(number_of),
    });
    // `sv`, `bv` and `ov` are those of LwM2M 1.0.
    let words = ["vs", "sv", "vlo", "ov"].into_iter().find_map(text);
    let value = match number {
        Some(number) => Some(number?),
        None => words
            .map(SenmlValue::Text)
            .or_else(|| flag("vb").or(flag("bv")).map(SenmlValue::Boolean))
            // The bytes of `vd` stay in their base64: they are of no use to the ledger as such.
            .or_else(|| text("vd").map(SenmlValue::Text)),
    };
    Some(Fields {
        base_name: text("bn"),
        name: text("n"),
        value,
    })
}

/// A number, as an integer if it is one exactly.
pub(super) fn number_of(number: f64) -> SenmlValue {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        SenmlValue::Integer(number as i64)
    } else {
        SenmlValue::Float(number)
    }
}
