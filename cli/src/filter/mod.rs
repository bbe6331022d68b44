//! Filters of devices as people write them: checked before anything is asked.

use std::fmt;
use std::str::FromStr;

use lamplighter_types::filter::{Filter, FilterError, FilterFault};
use lamplighter_types::printable;

#[cfg(test)]
mod tests;

/// The text of a filter that is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFilter(pub String);

/// Why a text is no filter, with the text and a mark below the first wrong sign.
#[derive(Debug)]
pub struct NotAFilter {
    text: String,
    error: FilterError,
}

impl FromStr for WrittenFilter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        match text.parse::<Filter>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(NotAFilter {
                text: text.to_owned(),
                error,
            }),
        }
    }
}

impl fmt::Display for NotAFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FilterError { position, fault } = &self.error;
        write!(f, "column {position}: {fault}")?;
        if matches!(fault, FilterFault::TooLong { .. }) {
            return Ok(());
        }
        let before: String = self.text.chars().take(position.saturating_sub(1)).collect();
        let before = printable(&before).chars().count();
        write!(f, "\n  {}\n  {:before$}^", printable(&self.text), "")
    }
}

impl std::error::Error for NotAFilter {}

/// The filter of devices that were not seen for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentFor(pub String);

/// A text that is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a time as 30m, 24h or 7d")]
pub struct NotALength;

impl FromStr for SilentFor {
    type Err = NotALength;

    fn from_str(time: &str) -> Result<Self, NotALength> {
        let digits = time.trim_start_matches(|sign: char| sign.is_ascii_digit());
        let text = format!("last_seen=lt=-{time}");
        let is_length = digits.len() == 1 && text.parse::<Filter>().is_ok();
        is_length.then_some(Self(text)).ok_or(NotALength)
    }
}
