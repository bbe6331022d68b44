//! Enums grow only at their end, and only with a version of the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lamplighter_types::protocol::{NEW_VARIANTS, NewVariant, PROTOCOL_VERSION, required_version};
use lamplighter_types::*;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::samples::{self, Visit};

/// Reads nothing: it only hears from an enum which variants it has.
struct VariantsOf<'a>(&'a mut Vec<&'static str>);

#[derive(Debug)]
struct Enough;

impl fmt::Display for Enough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the variants are known")
    }
}

impl std::error::Error for Enough {}

impl de::Error for Enough {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for VariantsOf<'_> {
    type Error = Enough;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Enough> {
        Err(Enough)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Enough> {
        self.0.extend(variants);
        Err(Enough)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

macro_rules! encoded_enums {
    ($($name:ident)*) => {
        /// Every enum that is part of a block or of the state, with its variants in their order.
        fn encoded_enums() -> BTreeMap<&'static str, Vec<&'static str>> {
            let mut enums = BTreeMap::new();
            $({
                let mut variants = Vec::new();
                let _ = $name::deserialize(VariantsOf(&mut variants));
                assert!(!variants.is_empty(), "{} is not an enum", stringify!($name));
                enums.insert(stringify!($name), variants);
            })*
            enums
        }
    };
}

encoded_enums! {
    Action UsersAction DevicesAction FirmwareAction RolloutsAction ConfigAction EventsAction
    GovernanceAction GovernanceChange ConfigTarget Selection AlarmChange
    Role AccountKind DeviceStatus ReleaseStatus RolloutStatus RolloutWork SkipReason
    DeploymentState Severity Fact MessageKind Outcome Encoding GroupMembers GroupStatus
    ConsentFrom ConsentChoice
}

/// Formats that have versions of their own.
const OTHER_FORMATS: [&str; 4] = ["login.rs", "work.rs", "proof", "wire"];

/// Names of the enums in a source text that can be decoded.
fn decoded_enums(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut decoded = false;
    for line in source.lines() {
        if let Some(name) = line.strip_prefix("pub enum ") {
            let name = name.trim_end_matches(" {").to_owned();
            found.extend(decoded.then_some(name));
        }
        let is_attribute = line.starts_with(['#', ' ', ')', '/']);
        decoded = is_attribute && (decoded || line.contains("Deserialize"));
    }
    found
}

fn sources(folder: &std::path::Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if OTHER_FORMATS.contains(&name) {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.extend(decoded_enums(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_encoded_enum_is_listed_here() {
    let mut found = BTreeSet::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    sources(std::path::Path::new(folder), &mut found);
    let listed: BTreeSet<_> = encoded_enums().into_keys().map(str::to_owned).collect();
    assert_eq!(found, listed);
}

fn since(of: &str, variant: &str) -> u32 {
    let new = NEW_VARIANTS.iter();
    let mut new = new.filter(|new| new.of == of && new.variant == variant);
    new.next().map_or(1, |new| new.since)
}

/// The approved list has a line for each variant: enum, index, name, first version. Lines are never
/// changed or taken out, not even with `UPDATE_GOLDEN=1`.
#[test]
fn variants_come_at_the_end_and_with_a_version() {
    let path = samples::path("golden", "variants.txt");
    let approved = std::fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeSet<&str> = approved
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let mut current = String::new();
    for (of, variants) in encoded_enums() {
        for (index, variant) in variants.iter().enumerate() {
            let version = since(of, variant);
            let line = format!("{of} {index} {variant} {version}");
            let is_new = !approved.lines().any(|approved| approved == line);
            assert!(
                !is_new || !known.contains(of) || version > 1,
                "{line}: a variant that moved or was renamed, or a new one without a line in \
                 NEW_VARIANTS; see the documentation of the module `protocol`"
            );
            current += &format!("{line}\n");
        }
    }
    for line in approved.lines() {
        assert!(current.contains(&format!("{line}\n")), "{line} is gone");
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &current).unwrap();
    } else {
        assert_eq!(current, approved, "UPDATE_GOLDEN=1 approves new variants");
    }
}

#[test]
fn new_variants_exist_and_belong_to_a_version_of_this_program() {
    let enums = encoded_enums();
    for NewVariant { of, variant, since } in NEW_VARIANTS {
        assert!(enums[of].contains(variant), "{of} has no variant {variant}");
        assert!(*since > 1, "{of} {variant}: version 1 is closed");
        assert!(*since <= PROTOCOL_VERSION, "{of} {variant} since {since}");
        // Admission sees the transaction alone. A variant around it makes a batch unreadable for
        // older nodes, whatever the version in force.
        let around = ["Encoding", "Outcome"];
        assert!(!around.contains(of), "{of} grows with the header's version");
    }
}

/// Takes each variant of the samples for a new one, and looks whether it is found.
struct Found(BTreeSet<(&'static str, &'static str)>);

impl Visit for Found {
    fn visit<T: serde::Serialize + de::DeserializeOwned + PartialEq + fmt::Debug>(
        &mut self,
        _kind: &str,
        value: &T,
        _json: &str,
    ) {
        for (of, variants) in encoded_enums() {
            for variant in variants {
                let since = 7;
                let new = [NewVariant { of, variant, since }];
                if required_version(value, &new) == since {
                    self.0.insert((of, variant));
                }
            }
        }
    }
}

#[test]
fn a_new_variant_is_found_at_every_place() {
    let mut found = Found(BTreeSet::new());
    for file in samples::FILES {
        samples::each(file, &mut found);
    }
    for (of, variants) in encoded_enums() {
        for variant in variants {
            assert!(found.0.contains(&(of, variant)), "{of} {variant}");
        }
    }
    let new = |variant, since| NewVariant {
        of: "Severity",
        variant,
        since,
    };
    let two = [new("major", 3), new("warning", 2)];
    assert_eq!(
        required_version(&vec![Severity::Major, Severity::Warning], &two),
        3
    );
    assert_eq!(required_version(&Some(Severity::Warning), &two), 2);
    assert_eq!(required_version(&Severity::Minor, &two), 1);
    assert_eq!(required_version(&Severity::Major, &[]), 1);
}

/// The order of states is written out, not that of the encoding.
#[test]
fn deployment_states_are_ordered_by_their_progress() {
    use DeploymentState::*;
    let way = [
        Assigned,
        Offered,
        Downloading,
        Downloaded,
        Installing,
        Staged,
        Trial,
        Confirmed,
    ];
    assert!(way.iter().is_sorted_by_key(|state| state.progress()));
    assert!(way.iter().all(|state| state.progress().is_some()));
    assert!(way.iter().is_sorted_by_key(|state| state.is_past_return()));
    assert!(
        way.iter()
            .all(|state| state.is_end() == (*state == Confirmed))
    );
    for waiting in [WaitingConsent, Postponed, WaitingWindow] {
        assert_eq!(waiting.progress(), None);
        assert!(!waiting.is_past_return() && !waiting.is_end());
    }
    for end in [
        Reverted, Failed, Rejected, TimedOut, Cancelled, Superseded, Removed, NotNeeded,
    ] {
        assert_eq!(end.progress(), None);
        assert!(end.is_past_return() && end.is_end());
    }
}
