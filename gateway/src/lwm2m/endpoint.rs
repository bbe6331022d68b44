//! The mapping from endpoint names to device ids. Manufacturers fix endpoint names (an EUI-64 in
//! one of its spellings, `urn:imei:...`), the ledger has its own rules for ids. A table of the
//! gateway's configuration comes first, then these rules. All spellings of one name map to one id.
//!
//! 1. Upper-case letters of ASCII become lower case. Then the table is consulted.
//! 2. An EUI-48 or EUI-64, in pairs of digits joined by `:` or `-`, or behind `urn:dev:mac:` or
//!    `urn:dev:os:`, becomes its 12 or 16 hexadecimal digits.
//! 3. In every other name each character that an id can't have becomes `-`.
//!
//! A name that is no id even then (it is too long, or begins with another character than a letter
//! or digit) needs an entry of the table.

use std::collections::BTreeMap;

use lamplighter_types::Id;

/// Prefixes of URNs that may carry an EUI (RFC 9039 and OMA LwM2M 1.1, section 7.3).
const EUI_PREFIXES: [&str; 2] = ["urn:dev:mac:", "urn:dev:os:"];
/// Hexadecimal digits of an EUI-48 and an EUI-64.
const EUI_DIGITS: [usize; 2] = [12, 16];

/// The table `[endpoints]` of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(BTreeMap<String, Id>);

impl Endpoints {
    /// The table, whose names are compared without regard to the case of ASCII letters.
    pub fn new(table: &BTreeMap<String, Id>) -> Self {
        let folded = |(name, id): (&String, &Id)| (name.to_ascii_lowercase(), id.clone());
        Self(table.iter().map(folded).collect())
    }

    /// The device that an endpoint name stands for; `None` if no rule gives an id.
    pub fn device(&self, name: &str) -> Option<Id> {
        let name = name.to_ascii_lowercase();
        if let Some(device) = self.0.get(&name) {
            return Some(device.clone());
        }
        Id::new(eui(&name).unwrap_or_else(|| sanitized(&name))).ok()
    }
}

/// The digits of an EUI, if the name is one.
fn eui(name: &str) -> Option<String> {
    let bare = EUI_PREFIXES
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    let mut digits = bare.to_owned();
    if let Some(separator) = [':', '-'].into_iter().find(|mark| bare.contains(*mark)) {
        if bare.split(separator).any(|pair| pair.len() != 2) {
            return None;
        }
        digits.retain(|c| c != separator);
    }
    let is_eui =
        EUI_DIGITS.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_eui.then_some(digits)
}

fn sanitized(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect()
}
