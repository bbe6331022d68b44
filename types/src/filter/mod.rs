//! The filter language for devices: RSQL, a friendly form of FIQL
//! (draft-nottingham-atompub-fiql-00), e.g. `model==Lamp*;district==north;last_seen=lt=-24h`.
//!
//! - `;` or ` and ` demands both sides, `,` or ` or ` one of them, and binds less; brackets group.
//! - A comparison is a field, an operator and a value, or several values in brackets with `=in=`
//!   and `=out=`.
//! - A value with other signs than letters, digits and `._-/:+*~@` stands in quotes, in which a
//!   backslash precedes a quote or a backslash. A `*` at the end of a text stands for any rest.
//!
//! A filter is parsed and checked once, against the fields below, and its errors name the place. It
//! reads nothing but the [`DeviceFacts`] of the caller, so that it is the same at the edge, in
//! reports and wherever else devices are chosen.

mod compare;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use compare::DeviceFacts;

use crate::{DeviceStatus, Hash, Scope, Version};

/// Bytes of a filter: a line that a person can still read.
pub const FILTER_BYTES_MAX: usize = 2_048;
/// Brackets inside brackets.
pub const FILTER_DEPTH_MAX: usize = 8;
/// Comparisons, each value of a list counted: each may cost a look-up for each device.
pub const FILTER_TERMS_MAX: usize = 64;

/// A filter, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All of these.
    All(Vec<Filter>),
    /// At least one of these.
    Any(Vec<Filter>),
    Comparison(Comparison),
}

/// A field compared with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub field: DeviceField,
    pub operator: Operator,
    pub value: FieldValue,
}

/// What a comparison asks. `=in=` is [`Filter::Any`] of equalities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `=lt=` or `<`
    Less,
    /// `=le=` or `<=`
    AtMost,
    /// `=gt=` or `>`
    More,
    /// `=ge=` or `>=`
    AtLeast,
}

/// A field of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceField {
    /// `device`: its id.
    Device,
    /// `model`
    Model,
    /// `hardware_class`
    HardwareClass,
    /// `district`: equal to a district is what lies in it and below it.
    District,
    /// `tag.NAME`: the value of a tag.
    Tag(String),
    /// `owner`
    Owner,
    /// `gateway`; `none` for those without one.
    Gateway,
    /// `status`: active, suspended, decommissioned.
    Status,
    /// `version` of the running firmware; `none` before the first report.
    Version,
    /// `release` that runs; `none` before the first.
    Release,
    /// `drifted`: runs something else than its release.
    Drifted,
    /// `rollout` at work on it; `none` if there is none.
    Rollout,
    /// `config`: blake3 of the configuration document that it last reported.
    Config,
    /// `config_applied`: it reported that it applied that document.
    ConfigApplied,
    /// `alarm`: kinds of active alarms; `*` for any, `none` for none.
    Alarm,
    /// `last_seen`: time of the block with its last event or report, and of its registration
    /// before.
    LastSeen,
}

/// A value that fits the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// Exactly this text.
    Text(String),
    /// Texts that begin so.
    Beginning(String),
    District(Scope),
    Status(DeviceStatus),
    Version(Version),
    Hash(Hash),
    Flag(bool),
    /// Unix time in ms.
    Time(u64),
    /// So many ms before the newest block.
    Ago(u64),
    /// The field has no value.
    Nothing,
}

/// Why a text is no filter, with the place of the first wrong sign, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at sign {position} of the filter: {fault}")]
pub struct FilterError {
    pub position: usize,
    pub fault: FilterFault,
}

/// What is wrong at the place of a [`FilterError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterFault {
    #[error("it has {got} bytes, more than {FILTER_BYTES_MAX}")]
    TooLong { got: usize },
    #[error("more than {FILTER_DEPTH_MAX} brackets inside each other")]
    TooDeep,
    #[error("more than {FILTER_TERMS_MAX} comparisons and values")]
    TooMany,
    #[error("there is no field {0:?}; the fields are {FIELD_NAMES}")]
    UnknownField(String),
    #[error("there is no operator {0:?}; the operators are == != =lt= =le= =gt= =ge= =in= =out=")]
    UnknownOperator(String),
    #[error("{field} can't be compared so; use {usable}")]
    Operator { field: String, usable: &'static str },
    #[error("{value:?} does not fit {field}: {wanted}")]
    Value {
        field: String,
        value: String,
        wanted: &'static str,
    },
    #[error("{wanted} is missing")]
    Missing { wanted: &'static str },
    #[error("{got:?} does not belong there, {wanted} was expected")]
    Unexpected { got: char, wanted: &'static str },
    #[error("the quote does not end")]
    OpenQuote,
}

/// The fields, for people.
pub const FIELD_NAMES: &str = "device, model, hardware_class, district, tag.NAME, owner, gateway, \
     status, version, release, drifted, rollout, config, config_applied, alarm, last_seen";

impl DeviceField {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "device" => Self::Device,
            "model" => Self::Model,
            "hardware_class" => Self::HardwareClass,
            "district" => Self::District,
            "owner" => Self::Owner,
            "gateway" => Self::Gateway,
            "status" => Self::Status,
            "version" => Self::Version,
            "release" => Self::Release,
            "drifted" => Self::Drifted,
            "rollout" => Self::Rollout,
            "config" => Self::Config,
            "config_applied" => Self::ConfigApplied,
            "alarm" => Self::Alarm,
            "last_seen" => Self::LastSeen,
            other => Self::Tag(other.strip_prefix("tag.")?.to_owned()),
        })
    }
}

impl fmt::Display for DeviceField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Model => "model",
            Self::HardwareClass => "hardware_class",
            Self::District => "district",
            Self::Tag(name) => return write!(f, "tag.{name}"),
            Self::Owner => "owner",
            Self::Gateway => "gateway",
            Self::Status => "status",
            Self::Version => "version",
            Self::Release => "release",
            Self::Drifted => "drifted",
            Self::Rollout => "rollout",
            Self::Config => "config",
            Self::ConfigApplied => "config_applied",
            Self::Alarm => "alarm",
            Self::LastSeen => "last_seen",
        })
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        parser::parse(text)
    }
}

impl Filter {
    /// All comparisons of the filter.
    pub fn comparisons(&self) -> Vec<&Comparison> {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().flat_map(Self::comparisons).collect()
            }
            Self::Comparison(comparison) => vec![comparison],
        }
    }

    /// Devices equal to a value in a field.
    pub fn equal(field: DeviceField, value: FieldValue) -> Self {
        Self::Comparison(Comparison {
            field,
            operator: Operator::Equal,
            value,
        })
    }
}
