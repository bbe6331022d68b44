use std::collections::VecDeque;
use std::fmt;
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

impl fmt::Display for NodeAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockOffset { height, offset_ms } => write!(
                f,
                "block {height} was not signed: its time is {offset_ms} ms off this node's clock"
            ),
            Self::Contradiction(Attestation {
                height,
                header,
                key,
                signature: _,
            }) => write!(
                f,
                "the validator with the key {key} signed the header {header} for block {height}, \
                 and this node computed another"
            ),
            Self::DiskFull(full) => full.fmt(f),
            Self::DamagedArtifact(artifact) => write!(
                f,
                "the artifact {artifact} was damaged on this disk; it was moved aside and is \
                 fetched again"
            ),
        }
    }
}

/// An alarm, and when this node noticed what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noticed {
    pub alarm: NodeAlarm,
    /// Unix time in ms, by this node's clock.
    pub time_ms: u64,
}

#[derive(Default)]
pub(crate) struct Alarms {
    kept: Mutex<VecDeque<Noticed>>,
    pub space: Space,
}

impl Alarms {
    /// Keeps an alarm; who noticed it writes it to the log.
    pub fn raise(&self, alarm: NodeAlarm, time_ms: u64) {
        let mut kept = self.kept.lock().expect("nobody panics with the lock");
        let same_kind =
            |a: &Noticed| std::mem::discriminant(&a.alarm) == std::mem::discriminant(&alarm);
        // A clock that is off raises the same alarm at every block: the newest one is kept.
        if matches!(alarm, NodeAlarm::ClockOffset { .. }) {
            kept.retain(|a| !same_kind(a));
        }
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Noticed { alarm, time_ms });
    }

    /// What was kept, and what is so at this moment.
    pub fn list(&self) -> Vec<Noticed> {
        let kept = self.kept.lock().expect("nobody panics with the lock");
        let now = self.space.noticed().map(|(full, time_ms)| Noticed {
            alarm: NodeAlarm::DiskFull(full),
            time_ms,
        });
        kept.iter().cloned().chain(now).collect()
    }
}
