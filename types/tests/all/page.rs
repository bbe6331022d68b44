//! `docs/formats.md` names the fields of types and the variants of enums in the order in which they
//! are encoded.

use lamplighter_types::*;
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::forward_to_deserialize_any;

/// Takes no value, but notes what a type asks for.
struct Asked<'a>(&'a mut &'static [&'static str]);

type Refused = serde::de::value::Error;

impl<'de> serde::Deserializer<'de> for Asked<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        Err(Refused::custom("neither a struct nor an enum"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refused> {
        *self.0 = fields;
        Err(Refused::custom("noted"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refused> {
        *self.0 = variants;
        Err(Refused::custom("noted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn names<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names: &'static [&'static str] = &[];
    let refused = T::deserialize(Asked(&mut names));
    assert!(refused.is_err());
    names.to_vec()
}

/// The names of the parts of a type in the page: `struct Tag { name: text, value: text }`, on one
/// line or on several.
fn printed<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let begins = [format!("\nstruct {kind} {{"), format!("\nenum {kind} {{")];
    let text = begins.iter().find_map(|begin| page.split_once(begin));
    let (_, text) = text.unwrap_or_else(|| panic!("no type {kind}"));
    let (mut names, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, sign) in text.char_indices() {
        match sign {
            '{' | '(' => depth += 1,
            ',' | '}' if depth == 0 => {
                let name = text[begin..at].trim().split([':', ' ']).next();
                names.extend(name.filter(|name| !name.is_empty()));
                begin = at + 1;
                if sign == '}' {
                    return names;
                }
            }
            '}' | ')' => depth -= 1,
            _ => {}
        }
    }
    panic!("{kind} has no end")
}

#[test]
fn the_page_has_all_fields_and_variants_in_their_order() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats.md"));
    let page = page.unwrap();
    macro_rules! check {
        ($($kind:ident)*) => {
            $(assert_eq!(printed(&page, stringify!($kind)), names::<$kind>(), stringify!($kind));)*
        };
    }
    check! {
        DeviceEvent DeploymentReport InventoryReport ConfigReport KeyRotation
        ReleaseManifest SignedRelease
        Device DeviceState Tag Account AccountKey Grant KeyRecord Release Deployment DeploymentStep
        DesiredConfig ReportedConfig Header Validator ValidatorSet
        Severity AlarmChange DeploymentState DeviceStatus AccountKind Role ReleaseStatus
        ConfigTarget
    }
}
