//! Types from a [`JsonValue`], through serde.
//!
//! The shapes are those of serde_json: a struct is an object or the list of its fields, a variant
//! is its name or an object with that one member, `null` is "none".

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::{JsonError, JsonValue};

/// Why a text is not the JSON form of a type.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum JsonDecodeError {
    #[error("the text is not UTF-8")]
    NotUtf8,
    #[error(transparent)]
    Syntax(#[from] JsonError),
    /// The value at `path`, e.g. `action.events.append.events[3].severity`, is of another form. An
    /// empty path is the whole value.
    #[error("{}{}{message}", path, if path.is_empty() { "" } else { ": " })]
    Form { path: String, message: String },
}

impl JsonDecodeError {
    /// The reason without the path.
    pub fn message(&self) -> String {
        match self {
            Self::Form { path: _, message } => message.clone(),
            other => other.to_string(),
        }
    }

    /// The same error, seen from the value around the one that it is about.
    fn within(self, step: &str) -> Self {
        match self {
            Self::Form { path, message } => {
                let dot = if path.is_empty() || path.starts_with('[') {
                    ""
                } else {
                    "."
                };
                let path = format!("{step}{dot}{path}");
                Self::Form { path, message }
            }
            other => other,
        }
    }
}

impl de::Error for JsonDecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Form {
            path: String::new(),
            message: message.to_string(),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match found {
            Unexpected::Unit => {
                Self::custom(format_args!("invalid type: null, expected {expected}"))
            }
            _ => Self::custom(format_args!("invalid type: {found}, expected {expected}")),
        }
    }
}

/// The value of the wanted type that `value` is the form of.
///
/// # Errors
/// It is the form of no such value.
pub fn from_value<T: DeserializeOwned>(value: JsonValue) -> Result<T, JsonDecodeError> {
    T::deserialize(value)
}

fn name_deserializer(name: &str) -> StrDeserializer<'_, JsonDecodeError> {
    StrDeserializer::new(name)
}

fn invalid<T>(value: &JsonValue, expected: &dyn de::Expected) -> Result<T, JsonDecodeError> {
    let found = match value {
        JsonValue::Null => Unexpected::Unit,
        JsonValue::Bool(value) => Unexpected::Bool(*value),
        JsonValue::Number(_) => Unexpected::Other("a number"),
        JsonValue::Text(text) => Unexpected::Str(text),
        JsonValue::List(_) => Unexpected::Seq,
        JsonValue::Object(_) => Unexpected::Map,
    };
    Err(de::Error::invalid_type(found, expected))
}

impl<'de> Deserializer<'de> for JsonValue {
    type Error = JsonDecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonDecodeError> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(number) => match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_i128(number),
            },
            Self::Text(text) => visitor.visit_string(text),
            Self::List(items) => {
                let mut items = Items {
                    count: 0,
                    rest: items.into_iter(),
                };
                let value = visitor.visit_seq(&mut items)?;
                match items.rest.len() {
                    0 => Ok(value),
                    more => Err(de::Error::custom(format!("{more} items too many"))),
                }
            }
            Self::Object(members) => visitor.visit_map(Members {
                rest: members.into_iter(),
                value: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonDecodeError> {
        match self {
            Self::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonDecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonDecodeError> {
        let expected = "the name of a variant, or an object with that one member";
        let (name, content) = match self {
            Self::Text(name) => (name, None),
            Self::Object(mut members) if members.len() == 1 => {
                let (name, content) = members.pop_first().expect("it has one member");
                (name, Some(content))
            }
            other => return invalid(&other, &expected),
        };
        visitor.visit_enum(Variant { name, content })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The items of a list that are still to be visited.
struct Items {
    count: usize,
    rest: std::vec::IntoIter<JsonValue>,
}

impl<'de> de::SeqAccess<'de> for &mut Items {
    type Error = JsonDecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, JsonDecodeError> {
        let Some(item) = self.rest.next() else {
            return Ok(None);
        };
        let index = self.count;
        self.count += 1;
        let item = seed.deserialize(item);
        item.map(Some)
            .map_err(|error| error.within(&format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The members of an object that are still to be visited, and the value of the one at hand.
struct Members {
    rest: std::collections::btree_map::IntoIter<String, JsonValue>,
    value: Option<(String, JsonValue)>,
}

impl<'de> de::MapAccess<'de> for Members {
    type Error = JsonDecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, JsonDecodeError> {
        let Some((name, value)) = self.rest.next() else {
            return Ok(None);
        };
        let key = seed.deserialize(name_deserializer(&name))?;
        self.value = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, JsonDecodeError> {
        let (name, value) = self.value.take().expect("a name comes before its value");
        seed.deserialize(value).map_err(|error| error.within(&name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A variant of an enum, with its content if it was written as an object.
struct Variant {
    name: String,
    content: Option<JsonValue>,
}

impl<'de> de::EnumAccess<'de> for Variant {
    type Error = JsonDecodeError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self), JsonDecodeError> {
        let variant = seed.deserialize(name_deserializer(&self.name))?;
        Ok((variant, self))
    }
}

impl Variant {
    fn visit<T>(
        self,
        read: impl FnOnce(JsonValue) -> Result<T, JsonDecodeError>,
    ) -> Result<T, JsonDecodeError> {
        let Some(content) = self.content else {
            let expected = "a variant with content";
            return Err(de::Error::invalid_type(Unexpected::UnitVariant, &expected));
        };
        read(content).map_err(|error| error.within(&self.name))
    }
}

impl<'de> de::VariantAccess<'de> for Variant {
    type Error = JsonDecodeError;

    fn unit_variant(self) -> Result<(), JsonDecodeError> {
        match self.content {
            None | Some(JsonValue::Null) => Ok(()),
            Some(content) => invalid(&content, &"no content"),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, JsonDecodeError> {
        self.visit(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, JsonDecodeError> {
        self.visit(|content| content.deserialize_any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonDecodeError> {
        self.visit(|content| content.deserialize_any(visitor))
    }
}
