//! Comparison of the version that a device names with that of a release.
//!
//! Blanks and NUL bytes around it, one leading `v` or `V`, and build metadata (from the `+` on) do
//! not count. The three numbers are compared. Any other text, `2.0` or `2.0.0-rc1`, is unknown: it
//! counts neither as the wanted version nor as another one.

use lamplighter_types::Version;

/// The result of comparing a named version with the wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The device names the wanted version.
    Same,
    /// The device names another version.
    Other,
    /// The device names no version that can be compared.
    Unknown,
}

/// Compares the version that a device names with the version that it should run.
pub fn compare(wanted: Version, named: &str) -> Comparison {
    let named = super::value::trim_padding(named);
    let named = named.strip_prefix(['v', 'V']).unwrap_or(named);
    let numbers = named.split('+').next().unwrap_or_default();
    match numbers.parse::<Version>() {
        Ok(version) if version == wanted => Comparison::Same,
        Ok(_) => Comparison::Other,
        Err(_) => Comparison::Unknown,
    }
}
