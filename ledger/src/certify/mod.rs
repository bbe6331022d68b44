//! Collects attestations until a quorum makes a certificate. A plain struct: no IO, no clock.

pub(crate) mod fetch;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use lamplighter_types::{Attestation, Certificate, Hash, PublicKey, ValidatorSet};

/// Heights beyond the newest certificate for which attestations are kept. A validator may be ahead
/// of this node by what the sequencer lets be uncertified, and some more.
const WINDOW: u64 = 1_024;
/// Different headers of one height that are kept as evidence; an honest cluster has one.
const HEADERS_PER_HEIGHT_MAX: usize = 4;

type Signed = BTreeMap<PublicKey, Attestation>;

/// What an attestation led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// Old, far ahead, of no validator, or known.
    Ignored,
    Kept,
    /// A quorum is complete.
    Certificate(Certificate),
}

/// The attestations that came in, by height and header.
#[derive(Default)]
pub(crate) struct Collector {
    heights: BTreeMap<u64, BTreeMap<Hash, Signed>>,
    certified: u64,
}

impl Collector {
    /// Heights up to `certified` are settled.
    pub fn settle(&mut self, certified: u64) {
        if certified > self.certified {
            self.certified = certified;
            self.heights = self.heights.split_off(&(certified + 1));
        }
    }

    /// Takes an attestation whose signature was verified. `set` is the one in force at its height.
    pub fn add(&mut self, attestation: Attestation, set: &ValidatorSet) -> Collected {
        let Attestation {
            height,
            header,
            key,
            ..
        } = attestation;
        let in_window = height > self.certified && height <= self.certified + WINDOW;
        if !in_window || set.by_key(&key).is_none() {
            return Collected::Ignored;
        }
        let headers = self.heights.entry(height).or_default();
        if !headers.contains_key(&header) && headers.len() >= HEADERS_PER_HEIGHT_MAX {
            return Collected::Ignored;
        }
        let signed = headers.entry(header).or_default();
        if signed.insert(key, attestation).is_some() {
            return Collected::Ignored;
        }
        if signed.len() < set.quorum() {
            return Collected::Kept;
        }
        let attestations: Vec<_> = signed.values().cloned().collect();
        Collected::Certificate(Certificate::from_attestations(
            height,
            header,
            &attestations,
        ))
    }
}
