//! Checks of single fields: texts, lists and numbers. The contracts use them on actions, and
//! programs may use them before they send one.

use std::collections::BTreeSet;

use crate::limits::NUMBER_MAX;
use crate::{is_plain, is_unseen};

/// Why a field of an action is refused whatever the state. Receipts have its fields.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldError {
    #[error("{field} is empty")]
    Empty { field: &'static str },
    #[error("{field} has {got} bytes or items, more than the {max} allowed")]
    TooLong {
        field: &'static str,
        got: usize,
        max: usize,
    },
    #[error("{field} has a character that is not seen or controls a terminal")]
    ControlCharacter { field: &'static str },
    #[error("{field} has {item} more than once")]
    Repeated { field: &'static str, item: String },
    #[error(
        "{field} is {got}, more than the {NUMBER_MAX} (2^53 - 1) that every reader of JSON gets \
         right"
    )]
    TooLarge { field: &'static str, got: u64 },
}

/// Text that may be empty, without characters that a reader does not see or that control a
/// terminal, but for line breaks and tabs.
pub fn text(field: &'static str, text: &str, max: usize) -> Result<(), FieldError> {
    if text.len() > max {
        return Err(FieldError::TooLong {
            field,
            got: text.len(),
            max,
        });
    }
    let refused = |c: char| is_unseen(c) && c != '\n' && c != '\t';
    if !is_plain(text) && text.chars().any(refused) {
        return Err(FieldError::ControlCharacter { field });
    }
    Ok(())
}

/// A name for people or machines: one line, not empty, and every character is seen.
pub fn name(field: &'static str, text: &str, max: usize) -> Result<(), FieldError> {
    if text.is_empty() {
        return Err(FieldError::Empty { field });
    }
    if text.len() > max {
        return Err(FieldError::TooLong {
            field,
            got: text.len(),
            max,
        });
    }
    if !is_plain(text) && text.chars().any(is_unseen) {
        return Err(FieldError::ControlCharacter { field });
    }
    Ok(())
}

/// A list that has at least one and at most `max` items.
pub fn list<T>(field: &'static str, items: &[T], max: usize) -> Result<(), FieldError> {
    if items.is_empty() {
        return Err(FieldError::Empty { field });
    }
    at_most(field, items, max)
}

/// A list of at most `max` items.
pub fn at_most<T>(field: &'static str, items: &[T], max: usize) -> Result<(), FieldError> {
    if items.len() > max {
        return Err(FieldError::TooLong {
            field,
            got: items.len(),
            max,
        });
    }
    Ok(())
}

/// A number that somebody chose.
pub fn number(field: &'static str, got: u64) -> Result<(), FieldError> {
    if got > NUMBER_MAX {
        return Err(FieldError::TooLarge { field, got });
    }
    Ok(())
}

/// Requires that no item occurs twice.
pub fn distinct<T: Ord + ToString>(
    field: &'static str,
    items: impl IntoIterator<Item = T>,
) -> Result<(), FieldError> {
    let mut before = BTreeSet::new();
    for item in items {
        let shown = item.to_string();
        if !before.insert(item) {
            return Err(FieldError::Repeated { field, item: shown });
        }
    }
    Ok(())
}
