use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A position in an ordered stream of the ledger, written `height.index`: a notification of the
/// feed, or a receipt in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// Height of the block.
    pub height: u64,
    /// Number in the block, from 0.
    pub index: u32,
}

impl Cursor {
    /// The position after everything in the block at `height`.
    pub fn end_of(height: u64) -> Self {
        let index = u32::MAX;
        Self { height, index }
    }

    /// The next position.
    pub fn next(self) -> Self {
        match self.index.checked_add(1) {
            Some(index) => Self { index, ..self },
            None => Self {
                height: self.height.saturating_add(1),
                index: 0,
            },
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.height, self.index)
    }
}

/// A text that is not of the form `height.index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor has the form height.index")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        match text.split_once('.') {
            Some((height, index)) if digits(height) && digits(index) => Ok(Self {
                height: height.parse().map_err(|_| CursorError)?,
                index: index.parse().map_err(|_| CursorError)?,
            }),
            _ => Err(CursorError),
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let cursor: Self = text.parse().map_err(de::Error::custom)?;
        // A value has one encoding: no leading zeros.
        if cursor.to_string() == text {
            Ok(cursor)
        } else {
            Err(de::Error::custom(CursorError))
        }
    }
}
