//! Collects attestations until a quorum makes a certificate. A plain struct: no IO, no clock.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_types::{Attestation, Certificate, PublicKey, ValidatorSet};

/// Heights beyond the newest certificate, and on either side of the head, for which attestations
/// are kept. Certificates may have stopped long ago while the chain went on: then all wait for a
/// quorum at the head.
const WINDOW: u64 = 1_024;

/// The outcome of one attestation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// Old, far ahead, from no validator, or a duplicate.
    Ignored,
    Kept,
    /// A quorum is complete.
    Certificate(Certificate),
}

/// The attestations that came in, by height and signer. If a validator signs several headers of one
/// height, only the last one counts, so it neither fills the collector nor stops the others.
#[derive(Default)]
pub(crate) struct Collector {
    heights: BTreeMap<u64, BTreeMap<PublicKey, Attestation>>,
    certified: u64,
    head: u64,
    /// Heights whose attestations are kept, however far from the window.
    awaited: BTreeSet<u64>,
}

impl Collector {
    /// Drops the heights up to the newest certificate.
    pub fn prune_certified(&mut self, certified: u64) {
        if certified > self.certified {
            self.certified = certified;
            self.heights = self.heights.split_off(&(certified + 1));
            self.awaited = self.awaited.split_off(&(certified + 1));
        }
    }

    /// Moves the window to a new head, and drops the heights that are far from it and from the
    /// newest certificate.
    pub fn advance_head(&mut self, head: u64) {
        if head.abs_diff(self.head) >= WINDOW / 2 {
            self.head = head;
            let mut heights = std::mem::take(&mut self.heights);
            heights.retain(|height, _| self.is_near(*height) || self.awaited.contains(height));
            self.heights = heights;
        }
    }

    /// Keeps the attestations of this height, however far from the window: its block changed the
    /// validators.
    pub fn await_height(&mut self, height: u64) {
        if height > self.certified {
            self.awaited.insert(height);
        }
    }

    /// Returns whether the height is in the window.
    pub fn is_near(&self, height: u64) -> bool {
        let beyond = height.saturating_sub(self.certified);
        beyond > 0 && (beyond <= WINDOW || height.abs_diff(self.head) <= WINDOW)
    }

    /// Returns whether an attestation of this height is kept.
    pub fn is_attested(&self, height: u64) -> bool {
        self.heights.contains_key(&height)
    }

    /// Returns whether this validator's signature on this header is known.
    pub fn has(&self, attestation: &Attestation) -> bool {
        let known = self.known(attestation);
        known.is_some_and(|known| known.header == attestation.header)
    }

    /// The same validator's attestation of another header of this height.
    pub fn other_of(&self, attestation: &Attestation) -> Option<Attestation> {
        let known = self.known(attestation);
        let other = known.filter(|known| known.header != attestation.header);
        other.cloned()
    }

    fn known(&self, attestation: &Attestation) -> Option<&Attestation> {
        self.heights.get(&attestation.height)?.get(&attestation.key)
    }

    /// Adds an attestation whose signature was verified. `set` is the one in force at its height.
    pub fn add(&mut self, attestation: Attestation, set: &ValidatorSet) -> Collected {
        let (height, header) = (attestation.height, attestation.header);
        let wanted = self.is_near(height) || self.awaited.contains(&height);
        if !wanted || set.by_key(&attestation.key).is_none() {
            return Collected::Ignored;
        }
        let signed = self.heights.entry(height).or_default();
        let before = signed.insert(attestation.key, attestation);
        if before.is_some_and(|before| before.header == header) {
            return Collected::Ignored;
        }
        let equal = signed.values().filter(|other| other.header == header);
        let attestations: Vec<_> = equal.cloned().collect();
        if attestations.len() < set.quorum() {
            return Collected::Kept;
        }
        Collected::Certificate(Certificate::from_attestations(
            height,
            header,
            &attestations,
        ))
    }
}
