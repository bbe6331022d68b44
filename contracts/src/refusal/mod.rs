//! Refusals: why an action changed nothing. A refusal is part of the receipt and equal on all
//! nodes.
//!
//! A receipt has a refusal's code and its fields, and no text: which characters a text escapes, or
//! how a library words an error, differs from one version of a compiler or library to the next, and
//! receipts are hashed. [`message`] makes the text for people from the templates of this program.

use std::fmt::Write;

use lamplighter_types::json::JsonProblem;
use lamplighter_types::validate::FieldError;
use lamplighter_types::{
    DeploymentState, DeviceStatus, GroupStatus, Hash, Id, PublicKey, RefusalFields, Role,
    RolloutStatus, Scope, json, printable,
};

use crate::users;
use crate::{
    AdmissionError, Forbidden, allowance, config, devices, events, firmware, governance, rollouts,
};

/// Bytes of a field that are kept of a longer text: enough to recognize what was sent.
const FIELD_BYTES_MAX: usize = 256;

/// Code and template: in the template `{name}` stands for the field of that name.
pub type Template = (&'static str, &'static str);

/// The refusal of an action: part of the receipt, equal on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code of the form `contract.reason`.
    pub code: &'static str,
    pub fields: RefusalFields,
}

impl Refusal {
    pub fn of<E: ContractError>(error: E) -> Self {
        Self {
            code: error.code(),
            fields: error.fields(),
        }
    }
}

/// The text for people.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&message(self.code, &self.fields))
    }
}

/// The error enum of a contract: every variant has a stable code, fields and a template.
pub trait ContractError: std::error::Error {
    /// The templates of all codes.
    fn templates() -> &'static [Template]
    where
        Self: Sized;

    fn code(&self) -> &'static str;

    /// The facts of this refusal, by name.
    fn fields(&self) -> RefusalFields;
}

/// A value in a field of a refusal. Its text is made by code of this repository alone, or is a
/// decimal number, so that it is the same on every node.
pub trait FieldText {
    fn field_text(&self) -> String;
}

macro_rules! field_text_by_display {
    ($($type:ty),*) => { $(
        impl FieldText for $type {
            fn field_text(&self) -> String {
                self.to_string()
            }
        }
    )* };
}

field_text_by_display!(u8, u32, u64, usize, Id, Hash, PublicKey);

impl FieldText for str {
    fn field_text(&self) -> String {
        let end = self.floor_char_boundary(FIELD_BYTES_MAX);
        self[..end].to_owned()
    }
}

impl FieldText for &'static str {
    fn field_text(&self) -> String {
        (**self).field_text()
    }
}

impl FieldText for String {
    fn field_text(&self) -> String {
        self.as_str().field_text()
    }
}

impl FieldText for Scope {
    fn field_text(&self) -> String {
        self.as_str().to_owned()
    }
}

impl FieldText for JsonProblem {
    fn field_text(&self) -> String {
        let name = match self {
            Self::NoValue => "no_value",
            Self::Expected(_) => "expected_character",
            Self::Trailing => "trailing_text",
            Self::TooDeep { .. } => "too_deep",
            Self::NotWhole => "not_whole",
            Self::TooLarge => "too_large",
            Self::Unclosed => "unclosed_string",
            Self::ControlCharacter => "control_character",
            Self::Escape => "escape",
            Self::Repeated => "repeated_name",
        };
        name.to_owned()
    }
}

macro_rules! field_text_by_name {
    ($($type:ty),*) => { $(
        impl FieldText for $type {
            fn field_text(&self) -> String {
                json::variant_name(self)
            }
        }
    )* };
}

field_text_by_name!(
    DeploymentState,
    DeviceStatus,
    GroupStatus,
    Role,
    RolloutStatus
);

/// Defines the error enum of a contract. After the name come the variants that hold another
/// contract's error; each other variant has named fields, a code and a template.
macro_rules! refusals {
    (
        $(#[$meta:meta])*
        pub enum $name:ident [$($nested:ident($source:ty)),*] {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident
                $(($($item:ident: $item_type:ty),+))?
                $({ $($field:ident: $field_type:ty),+ })?
                = $code:literal, $text:literal;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($nested($source),)*
            $(
                $(#[$variant_meta])*
                $variant $(($($item_type),+))? $({ $($field: $field_type),+ })?,
            )*
        }

        impl $crate::ContractError for $name {
            fn templates() -> &'static [$crate::refusal::Template] {
                &[$(($code, $text)),*]
            }

            fn code(&self) -> &'static str {
                match self {
                    $(Self::$nested(error) => error.code(),)*
                    $(Self::$variant { .. } => $code,)*
                }
            }

            fn fields(&self) -> lamplighter_types::RefusalFields {
                match self {
                    $(Self::$nested(error) => error.fields(),)*
                    $(
                        Self::$variant $(($($item),+))? $({ $($field),+ })? => [
                            $($($crate::refusal::named(stringify!($item), $item)),+)?
                            $($($crate::refusal::named(stringify!($field), $field)),+)?
                        ].into(),
                    )*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::refusal::text_of(self))
            }
        }

        impl std::error::Error for $name {}

        $(impl From<$source> for $name {
            fn from(error: $source) -> Self {
                Self::$nested(error)
            }
        })*
    };
}
pub(crate) use refusals;

impl ContractError for FieldError {
    fn templates() -> &'static [Template] {
        &[
            ("shape.empty", "{field} is empty"),
            (
                "shape.too_long",
                "{field} has {got} bytes or items, more than the {max} allowed",
            ),
            (
                "shape.control_character",
                "{field} has a character that is not seen or controls a terminal",
            ),
            ("shape.repeated", "{field} has {item} more than once"),
            (
                "shape.too_large",
                "{field} is {got}, more than the 9007199254740991 (2^53 - 1) that every reader of \
                 JSON gets right",
            ),
        ]
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "shape.empty",
            Self::TooLong { .. } => "shape.too_long",
            Self::ControlCharacter { .. } => "shape.control_character",
            Self::Repeated { .. } => "shape.repeated",
            Self::TooLarge { .. } => "shape.too_large",
        }
    }

    fn fields(&self) -> RefusalFields {
        let mut fields = RefusalFields::new();
        let mut add = |name: &str, text: String| fields.insert(name.to_owned(), text);
        match self {
            Self::Empty { field } | Self::ControlCharacter { field } => {
                add("field", field.field_text());
            }
            Self::TooLong { field, got, max } => {
                add("field", field.field_text());
                add("got", got.field_text());
                add("max", max.field_text());
            }
            Self::Repeated { field, item } => {
                add("field", field.field_text());
                add("item", item.field_text());
            }
            Self::TooLarge { field, got } => {
                add("field", field.field_text());
                add("got", got.field_text());
            }
        }
        fields
    }
}

/// A field of a refusal, with its name.
pub(crate) fn named(name: &str, value: &impl FieldText) -> (String, String) {
    (name.to_owned(), value.field_text())
}

/// The text of an error for people, by its own templates.
pub(crate) fn text_of<E: ContractError>(error: &E) -> String {
    let code = error.code();
    let mut templates = E::templates().iter();
    match templates.find(|(of, _)| *of == code) {
        Some((_, template)) => fill(template, &error.fields()),
        None => message(code, &error.fields()),
    }
}

/// The text of a refusal for people, in one line: the template of its code with its fields, or
/// code and fields as they are when this program does not know the code.
pub fn message(code: &str, fields: &RefusalFields) -> String {
    match templates().find(|(of, _)| *of == code) {
        Some((_, template)) => fill(template, fields),
        None => {
            let mut text = printable(code).into_owned();
            for (name, value) in fields {
                write!(text, " {}={}", printable(name), printable(value))
                    .expect("a String takes everything");
            }
            text
        }
    }
}

fn templates() -> impl Iterator<Item = Template> {
    let all = [
        FieldError::templates(),
        AdmissionError::templates(),
        Forbidden::templates(),
        allowance::AllowanceError::templates(),
        users::UsersError::templates(),
        devices::DevicesError::templates(),
        devices::iotregistry::RegistryError::templates(),
        config::ConfigError::templates(),
        events::EventsError::templates(),
        firmware::FirmwareError::templates(),
        governance::GovernanceError::templates(),
        rollouts::RolloutsError::templates(),
    ];
    all.into_iter().flatten().copied()
}

/// Puts the fields into a template. A field that is missing stays as its name.
fn fill(template: &str, fields: &RefusalFields) -> String {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        text.push_str(before);
        match fields.get(name) {
            Some(value) if value.is_empty() && name == "scope" => text.push_str("the whole city"),
            Some(value) => text.push_str(&printable(value)),
            None => text.push_str(name),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;
