//! How the version that a device names compares with that of a release.
//!
//! Blanks and NUL bytes around it, one leading `v` or `V`, and build metadata (`+` and what
//! follows) do not count. What is left is compared by its three numbers. Anything else, `2.0` or
//! `2.0.0-rc1`, says nothing about the version: it is neither the wanted one nor another.

use lamplighter_types::Version;

/// What a named version says about the wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the wanted one.
    Same,
    /// It is another one.
    Other,
    /// It can't be told.
    Unknown,
}

/// Compares what a device names with the version that it should run.
pub fn compare(wanted: Version, named: &str) -> Comparison {
    let named = super::value::trimmed(named);
    let named = named.strip_prefix(['v', 'V']).unwrap_or(named);
    let numbers = named.split('+').next().unwrap_or_default();
    match numbers.parse::<Version>() {
        Ok(version) if version == wanted => Comparison::Same,
        Ok(_) => Comparison::Other,
        Err(_) => Comparison::Unknown,
    }
}
