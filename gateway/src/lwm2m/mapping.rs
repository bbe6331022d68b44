//! The mapping from a configuration document to standard resources, for Things without our agent.
//!
//! The document itself has the mapping, in its member `lwm2m`; usually the document of the model
//! does. So it is proven with the document, has its versions and its digest, and is changed by who
//! may change the document. A record of IOTRegistry's `Spec` would not do: whoever comes first
//! registers its name, and nobody can mend it.
//!
//! ```json
//! {
//!   "dim": 80,
//!   "night": {"from_h": 22, "power_w": 125},
//!   "pole": 7,
//!   "lwm2m": {
//!     "resources": {
//!       "/3311/0/5851": {"key": "/dim", "type": "integer", "min": 0, "max": 100},
//!       "/3305/0/5800": {"key": "/night/power_w", "type": "float", "decimals": 1}
//!     },
//!     "ignore": ["/pole", "/night/from_h"]
//!   }
//! }
//! ```
//!
//! A resource gets the value at `key`, an RFC 6901 pointer into the document, or else its `default`
//! if there is one. Nothing is written unless all of it fits: every value of the document has a
//! resource or is ignored, has the type, and is within `min` and `max`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::agent;
use super::resource::{Real, Resource, ResourcePath, ResourceValue};

/// The member of a document that has the mapping.
pub const MEMBER: &str = "lwm2m";
/// Resources of one Thing: each costs up to three messages.
pub const RESOURCES_MAX: usize = 64;
/// Decimals of a number: a device has no more in 32 bits.
const DECIMALS_MAX: u8 = 9;
/// Objects that no configuration writes: keys and access control (0, 2, 21, 23), and updates,
/// which only proven deployments begin (5, 9, 33000). Who may configure a device must not be able
/// to take it over.
const PROTECTED_OBJECTS: [u16; 7] = [0, 2, 5, 9, 21, 23, agent::OBJECT];

/// Why a document can't be written to a Thing's resources. The code stands first in the report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// The document is no JSON object, or its member `lwm2m` has another form.
    #[error("lwm2m.mapping: {0}")]
    Malformed(String),
    /// More resources than a Thing is given.
    #[error("lwm2m.mapping: more than {RESOURCES_MAX} resources")]
    TooMany,
    /// The name of a resource is no path, or of an object that is not for configuration.
    #[error("lwm2m.path: {0} is no resource that a configuration may write")]
    Path(String),
    /// A value of the document has no resource and is not ignored.
    #[error("lwm2m.unmapped: {0} has no resource")]
    Unmapped(String),
    /// A value has another type than the resource.
    #[error("lwm2m.type: {key} is no {wanted} for {path}")]
    Type {
        /// Where the value is.
        key: String,
        /// The type of the resource.
        wanted: &'static str,
        /// The resource.
        path: String,
    },
    /// A number is out of the resource's range.
    #[error("lwm2m.range: {key} is {number}, {path} takes {min} to {max}")]
    Range {
        /// Where the value is.
        key: String,
        /// The number.
        number: i64,
        /// The resource.
        path: String,
        /// The least that it takes.
        min: i64,
        /// The most that it takes.
        max: i64,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    resources: BTreeMap<String, Target>,
    #[serde(default)]
    ignore: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    key: String,
    #[serde(rename = "type")]
    value_type: ValueType,
    min: Option<i64>,
    max: Option<i64>,
    /// The document has no fractions: its number counts units of this decimal place.
    #[serde(default)]
    decimals: u8,
    default: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueType {
    Boolean,
    Integer,
    Float,
    String,
    Opaque,
}

impl ValueType {
    fn name(self) -> &'static str {
        match self {
            ValueType::Boolean => "boolean",
            ValueType::Integer => "integer",
            ValueType::Float => "float",
            ValueType::String => "string",
            ValueType::Opaque => "opaque",
        }
    }
}

/// The values that a document gives to resources, in the order of their paths; `None` if the
/// document has no mapping.
///
/// # Errors
/// The first thing in the document that does not fit.
pub fn resources(document: &str) -> Result<Option<Vec<Resource>>, MappingError> {
    let malformed = |error: serde_json::Error| MappingError::Malformed(error.to_string());
    let document: Value = serde_json::from_str(document).map_err(malformed)?;
    let Some(mapping) = document.get(MEMBER) else {
        return Ok(None);
    };
    let mapping = Mapping::deserialize(mapping).map_err(malformed)?;
    if mapping.resources.len() > RESOURCES_MAX {
        return Err(MappingError::TooMany);
    }
    check_complete(&document, &mapping)?;
    let values = mapping.resources.iter().map(|(name, target)| {
        let path = path(name)?;
        let value = document.pointer(&target.key).or(target.default.as_ref());
        let value = value.map(|value| target.value(value, path)).transpose()?;
        Ok(value.map(|value| Resource { path, value }))
    });
    let values: Result<Vec<_>, MappingError> = values.collect();
    let mut values: Vec<Resource> = values?.into_iter().flatten().collect();
    values.sort_by_key(|resource| resource.path);
    Ok(Some(values))
}

fn path(name: &str) -> Result<ResourcePath, MappingError> {
    let path: Option<ResourcePath> = name.parse().ok();
    path.filter(|path| !PROTECTED_OBJECTS.contains(&path.of.object))
        .ok_or_else(|| MappingError::Path(name.to_owned()))
}

/// Checks that each value of the document is mapped or ignored.
fn check_complete(document: &Value, mapping: &Mapping) -> Result<(), MappingError> {
    let Value::Object(members) = document else {
        return Err(MappingError::Malformed("it is no object".to_owned()));
    };
    let mut open: Vec<(String, &Value)> = members
        .iter()
        .filter(|(name, _)| *name != MEMBER)
        .map(|(name, value)| (pointer("", name), value))
        .collect();
    while let Some((key, value)) = open.pop() {
        let is_mapped = |target: &Target| target.key == key;
        if mapping.ignore.contains(&key) || mapping.resources.values().any(is_mapped) {
            continue;
        }
        match value {
            Value::Object(members) if !members.is_empty() => {
                let inside = members.iter();
                open.extend(inside.map(|(name, value)| (pointer(&key, name), value)));
            }
            _ => return Err(MappingError::Unmapped(key)),
        }
    }
    Ok(())
}

fn pointer(base: &str, name: &str) -> String {
    format!("{base}/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl Target {
    fn value(&self, value: &Value, path: ResourcePath) -> Result<ResourceValue, MappingError> {
        let fits = match (self.value_type, value) {
            (ValueType::Boolean, Value::Bool(flag)) => Some(ResourceValue::Boolean(*flag)),
            (ValueType::String, Value::String(text)) => Some(ResourceValue::Text(text.clone())),
            (ValueType::Opaque, Value::String(text)) => {
                hex::decode(text).ok().map(ResourceValue::Opaque)
            }
            (ValueType::Integer | ValueType::Float, Value::Number(number)) => {
                let number = number.as_i64();
                number.map(|number| self.number(number, path)).transpose()?
            }
            _ => None,
        };
        fits.ok_or_else(|| MappingError::Type {
            key: self.key.clone(),
            wanted: self.value_type.name(),
            path: path.to_string(),
        })
    }

    fn number(&self, number: i64, path: ResourcePath) -> Result<ResourceValue, MappingError> {
        let (min, max) = (self.min.unwrap_or(i64::MIN), self.max.unwrap_or(i64::MAX));
        if number < min || number > max {
            return Err(MappingError::Range {
                key: self.key.clone(),
                number,
                path: path.to_string(),
                min,
                max,
            });
        }
        if self.value_type == ValueType::Integer && self.decimals == 0 {
            return Ok(ResourceValue::Integer(number));
        }
        let is_float = self.value_type == ValueType::Float && self.decimals <= DECIMALS_MAX;
        let scaled = number as f64 / 10f64.powi(i32::from(self.decimals));
        let real = Real::new(scaled).filter(|_| is_float);
        let problem = || MappingError::Malformed(format!("decimals of {path}"));
        real.map(ResourceValue::Float).ok_or_else(problem)
    }
}
