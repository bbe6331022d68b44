//! Names of accounts, devices, releases and rollouts; districts; versions. Each is checked when it
//! is decoded, so that the rest of the code never meets a malformed one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

use crate::limits::{ID_BYTES_MAX, SCOPE_BYTES_MAX, SCOPE_PARTS_MAX};

/// Why a text is not a name of the wanted kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error(
        "an id has 1 to {ID_BYTES_MAX} characters of a-z, 0-9, '.', '_', '-', \
         and begins with a letter or digit"
    )]
    Id,
    #[error(
        "a district is a path of at most {SCOPE_PARTS_MAX} ids joined by '/', \
         or empty for the whole city"
    )]
    Scope,
    #[error(
        "a version has the form major.minor.patch, each a number below 2^32 without leading zeros"
    )]
    Version,
}

fn is_id(text: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let first = text.as_bytes().first();
    text.len() <= ID_BYTES_MAX
        && first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text.bytes().all(allowed)
}

macro_rules! checked_text {
    ($name:ident, $check:expr, $error:expr, $pattern:literal, $max:expr) => {
        impl $name {
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                if $check(text) {
                    Ok(Self(SmolStr::new(text)))
                } else {
                    Err($error)
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TextVisitor;

                impl de::Visitor<'_> for TextVisitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(TextVisitor)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                crate::schema::text($pattern, Some($max))
            }
        }
        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    };
}

/// The name of an account, device, organization, release, rollout or proposal. Up to 23 bytes are
/// in place, longer ones are shared: a copy allocates nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(SmolStr);
checked_text!(
    Id,
    is_id,
    NameError::Id,
    "^[a-z0-9][a-z0-9._-]{0,63}$",
    ID_BYTES_MAX
);

/// A district: a path such as `north/harbour`; the empty one is the whole city.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(SmolStr);
checked_text!(
    Scope,
    is_scope,
    NameError::Scope,
    "^([a-z0-9][a-z0-9._-]{0,63}(/[a-z0-9][a-z0-9._-]{0,63}){0,5})?$",
    SCOPE_BYTES_MAX
);

fn is_scope(text: &str) -> bool {
    text.is_empty()
        || text.len() <= SCOPE_BYTES_MAX
            && text.split('/').count() <= SCOPE_PARTS_MAX
            && text.split('/').all(is_id)
}

impl Scope {
    /// The whole city.
    pub fn city() -> Self {
        Self(SmolStr::default())
    }

    /// Tells whether `other` is this district or lies in it.
    pub fn covers(&self, other: &Scope) -> bool {
        self.0.is_empty()
            || other
                .0
                .strip_prefix(self.0.as_str())
                .is_some_and(|r| r.is_empty() || r.starts_with('/'))
    }

    /// The path from the whole city to this district, both included.
    pub fn ancestry(&self) -> Vec<Scope> {
        let mut path = vec![Scope::city()];
        let ends = self.0.match_indices('/').map(|(at, _)| at);
        path.extend(ends.map(|end| Scope(SmolStr::new(&self.0[..end]))));
        if !self.0.is_empty() {
            path.push(self.clone());
        }
        path
    }
}

/// A version `major.minor.patch`, ordered by its numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Version {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let number = |part: Option<&str>| -> Option<u32> {
            let part = part?;
            let plain = part.bytes().all(|b| b.is_ascii_digit());
            let leading_zero = part.len() > 1 && part.starts_with('0');
            (plain && !leading_zero)
                .then(|| part.parse().ok())
                .flatten()
        };
        let mut parts = text.split('.');
        let (major, minor, patch) = (
            number(parts.next()),
            number(parts.next()),
            number(parts.next()),
        );
        match (major, minor, patch, parts.next()) {
            (Some(major), Some(minor), Some(patch), None) => Ok(Self {
                major,
                minor,
                patch,
            }),
            _ => Err(NameError::Version),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.major, self.minor, self.patch).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(de::Error::custom)
        } else {
            let (major, minor, patch) = Deserialize::deserialize(deserializer)?;
            Ok(Self {
                major,
                minor,
                patch,
            })
        }
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Version {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        crate::schema::text(
            "^(0|[1-9][0-9]{0,9})\\.(0|[1-9][0-9]{0,9})\\.(0|[1-9][0-9]{0,9})$",
            None,
        )
    }
}
#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Version {}
