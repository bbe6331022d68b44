//! OpenAPI schemas of the types whose JSON form is written by hand.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

/// Hexadecimal text of `bytes` bytes, or of any length.
pub(crate) fn hex_text(bytes: Option<usize>) -> RefOr<Schema> {
    let pattern = match bytes {
        Some(bytes) => format!("^[0-9a-f]{{{}}}$", bytes * 2),
        None => "^([0-9a-f]{2})*$".to_owned(),
    };
    text(&pattern, bytes.map(|bytes| bytes * 2))
}

/// Text that matches `pattern` and has at most `max_length` characters.
pub(crate) fn text(pattern: &str, max_length: Option<usize>) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(pattern))
        .max_length(max_length)
        .into()
}
