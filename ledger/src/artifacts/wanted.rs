//! The order in which this node fetches artifacts, and the party to which each is counted.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_contracts::firmware::{self, Standing};
use lamplighter_contracts::rollouts;
use lamplighter_state::{StateError, View};
use lamplighter_types::{Artifact, Hash, Id};

use super::index::Charge;

/// Artifacts read at once.
const PAGE: usize = 256;

/// An artifact that this node should hold.
#[derive(Clone, Debug)]
pub(super) struct WantedArtifact {
    pub artifact: Artifact,
    pub charge: Charge,
}

impl WantedArtifact {
    pub fn is_released(&self) -> bool {
        self.charge == Charge::City
    }
}

/// What is to be done with the bytes of a digest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// This node fetches and keeps them.
    Hold(Charge),
    /// They stay if they are here.
    Keep(Charge),
    /// No release names them: they belong to who uploaded them.
    Unpublished,
    Collect,
}

/// Decides about digests by the state at one height.
pub(super) struct Dispositions {
    view: View,
    time_ms: u64,
    /// Artifacts of rollouts that have begun and not ended.
    at_work: BTreeSet<Hash>,
}

impl Dispositions {
    /// `time_ms` is that of the newest block.
    pub fn new(view: View, time_ms: u64) -> Result<Self, StateError> {
        let at_work = rollouts::artifacts_at_work(&view)?;
        Ok(Self {
            view,
            time_ms,
            at_work,
        })
    }

    pub fn of(&self, digest: &Hash) -> Result<Disposition, StateError> {
        // A revoked release may still have Things in the middle of its installation.
        if self.at_work.contains(digest) {
            return Ok(Disposition::Hold(Charge::City));
        }
        Ok(
            match firmware::standing(&self.view, digest, self.time_ms)? {
                Standing::Released => Disposition::Hold(Charge::City),
                Standing::Unapproved { organization } => {
                    Disposition::Hold(Charge::Organization(organization))
                }
                Standing::Ended {
                    collectable: true, ..
                } => Disposition::Collect,
                Standing::Ended { was_released, .. } if was_released => {
                    Disposition::Keep(Charge::City)
                }
                Standing::Ended { organization, .. } => {
                    Disposition::Keep(Charge::Organization(organization))
                }
                Standing::Unpublished => Disposition::Unpublished,
            },
        )
    }

    /// Tells whether the ledger has `node` as a holder of the artifact.
    pub fn is_holder(&self, digest: &Hash, size_bytes: u64, node: u64) -> Result<bool, StateError> {
        let record = firmware::artifact(&self.view, digest, size_bytes)?;
        Ok(record.is_some_and(|artifact| artifact.holders.contains(&node)))
    }

    /// The artifacts that this node should hold: those of released firmware first, then the others,
    /// of each organization in turn, so that none waits for the many of another.
    pub fn wanted(&self) -> Result<Vec<WantedArtifact>, StateError> {
        let mut wanted = Vec::new();
        let mut rank_of: BTreeMap<Id, usize> = BTreeMap::new();
        let mut after: Option<(Hash, u64)> = None;
        loop {
            let page = firmware::artifacts(&self.view, after.as_ref(), PAGE)?;
            after = page.last().map(|last| (last.digest, last.size_bytes));
            let is_last = page.len() < PAGE;
            for artifact in page {
                let Disposition::Hold(charge) = self.of(&artifact.digest)? else {
                    continue;
                };
                let rank = match &charge {
                    Charge::City | Charge::Unknown => 0,
                    Charge::Organization(organization) => {
                        let rank = rank_of.entry(organization.clone()).or_default();
                        *rank += 1;
                        *rank
                    }
                };
                wanted.push((rank, WantedArtifact { artifact, charge }));
            }
            if is_last {
                break;
            }
        }
        // Stable: by digest within a rank.
        wanted.sort_by_key(|(rank, _)| *rank);
        Ok(wanted.into_iter().map(|(_, wanted)| wanted).collect())
    }
}
