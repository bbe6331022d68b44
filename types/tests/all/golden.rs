//! The encodings of all types are frozen: a change shows up here and has to be wanted. After a look
//! at the difference, `UPDATE_GOLDEN=1 cargo test -p lamplighter-types` approves it.

use std::collections::BTreeSet;
use std::fmt::Write;

use lamplighter_types::{Hash, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::samples::{self, FILES, KINDS, Visit};

struct Lines(String);

impl Visit for Lines {
    fn visit<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        kind: &str,
        value: &T,
        _json: &str,
    ) {
        let bytes = codec::encode(value);
        writeln!(self.0, "{kind} {} {}", Hash::of(&bytes), hex::encode(bytes)).unwrap();
    }
}

fn difference(wanted: &str, got: &str) -> String {
    let (wanted, got): (Vec<_>, Vec<_>) = (wanted.lines().collect(), got.lines().collect());
    let mut text = String::new();
    for at in 0..wanted.len().max(got.len()) {
        let (old, new) = (wanted.get(at).unwrap_or(&""), got.get(at).unwrap_or(&""));
        if old != new {
            writeln!(text, "line {}\n  - {old}\n  + {new}", at + 1).unwrap();
        }
    }
    text
}

#[test]
fn encodings_are_those_that_were_approved() {
    let mut changed = String::new();
    for file in FILES {
        let mut lines = Lines(String::new());
        samples::each(file, &mut lines);
        let path = samples::path("golden", &format!("{file}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &lines.0).unwrap();
        }
        let approved = std::fs::read_to_string(&path).unwrap_or_default();
        let difference = difference(&approved, &lines.0);
        if !difference.is_empty() {
            write!(changed, "{}:\n{difference}", path.display()).unwrap();
        }
    }
    assert!(changed.is_empty(), "encodings have changed\n{changed}");
}

#[test]
fn every_type_has_a_sample() {
    let kinds: BTreeSet<_> = FILES
        .iter()
        .flat_map(|file| samples::of(file))
        .map(|sample| sample.kind)
        .collect();
    // These two only occur inside the samples of bundles.
    let inner = ["ListProof", "StateProof"];
    for kind in KINDS.iter().filter(|kind| !inner.contains(kind)) {
        assert!(kinds.contains(*kind), "no sample of {kind}");
    }
}

/// The tags of the samples of one enum.
#[derive(Default)]
struct Tags(std::collections::BTreeMap<String, (BTreeSet<u32>, String)>);

impl Visit for Tags {
    fn visit<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        &mut self,
        kind: &str,
        value: &T,
        json: &str,
    ) {
        let refusal = format!("{:?}", codec::decode::<T>(&[0xff; 4]).err());
        let tree: serde_json::Value = serde_json::from_str(json).unwrap();
        let is_enum = tree.as_object().is_none_or(|fields| fields.len() == 1);
        if !is_enum || !refusal.contains("variant index") {
            return;
        }
        let tag = |bytes: &[u8]| u32::from_le_bytes(*bytes.first_chunk().unwrap());
        let bytes = codec::encode(value);
        let entry = self
            .0
            .entry(kind.to_owned())
            .or_insert_with(|| (BTreeSet::new(), refusal));
        entry.0.insert(tag(&bytes));
        // The contract's own enum is inside the one of all actions.
        if kind == "Action" {
            let name = json.split('"').nth(1).unwrap();
            let kind = format!("Action.{name}");
            let inner = self.0.entry(kind).or_insert_with(|| {
                let mut unknown = bytes[..4].to_vec();
                unknown.extend([0xff; 4]);
                (
                    BTreeSet::new(),
                    format!("{:?}", codec::decode::<T>(&unknown).unwrap_err()),
                )
            });
            inner.0.insert(tag(&bytes[4..]));
        }
    }
}

#[test]
fn every_variant_has_a_sample() {
    let mut tags = Tags::default();
    for file in FILES {
        samples::each(file, &mut tags);
    }
    assert!(tags.0.len() > 20, "found {} enums", tags.0.len());
    for (kind, (found, refusal)) in tags.0 {
        let count = found.len() as u32;
        assert!(
            found.iter().copied().eq(0..count),
            "{kind}: only the tags {found:?} have samples"
        );
        let last = format!("variant index 0 <= i < {count}");
        assert!(
            refusal.contains(&last),
            "{kind} has {count} samples: {refusal}"
        );
    }
}
