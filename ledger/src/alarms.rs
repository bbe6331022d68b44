use std::collections::VecDeque;
use std::sync::Mutex;

use lamplighter_types::{Attestation, Hash};

use crate::space::{DiskFull, Space};

/// Kept alarms: enough for an operator to see what happened, older ones are in the log.
const KEPT_MAX: usize = 64;

/// What a node noticed about itself and its peers, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAlarm {
    /// A block's time was so far off this node's clock that it was not attested.
    ClockOffset { height: u64, offset_ms: u64 },
    /// A validator signed another header than this node computed: evidence of a fault.
    Contradiction(Attestation),
    /// The disk is nearly full: the node is read-only until there is space.
    DiskFull(DiskFull),
    /// An artifact's bytes on this disk were damaged; it was moved aside and is fetched again.
    DamagedArtifact(Hash),
}

#[derive(Default)]
pub(crate) struct Alarms {
    kept: Mutex<VecDeque<NodeAlarm>>,
    pub space: Space,
}

impl Alarms {
    fn raise(&self, alarm: NodeAlarm) {
        let mut kept = self.kept.lock().expect("nobody panics with the lock");
        let same_kind = |a: &NodeAlarm| std::mem::discriminant(a) == std::mem::discriminant(&alarm);
        // A clock that is off raises the same alarm at every block: the newest one is kept.
        if matches!(alarm, NodeAlarm::ClockOffset { .. }) {
            kept.retain(|a| !same_kind(a));
        }
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(alarm);
    }

    pub fn clock_offset(&self, height: u64, offset_ms: u64) {
        self.raise(NodeAlarm::ClockOffset { height, offset_ms });
    }

    pub fn contradiction(&self, attestation: Attestation) {
        self.raise(NodeAlarm::Contradiction(attestation));
    }

    pub fn damaged_artifact(&self, digest: Hash) {
        self.raise(NodeAlarm::DamagedArtifact(digest));
    }

    /// What was kept, and what is so at this moment.
    pub fn list(&self) -> Vec<NodeAlarm> {
        let kept = self.kept.lock().expect("nobody panics with the lock");
        let now = self.space.full().map(NodeAlarm::DiskFull);
        kept.iter().cloned().chain(now).collect()
    }
}
