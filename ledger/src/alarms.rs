use std::collections::VecDeque;
use std::sync::Mutex;

use lamplighter_types::Attestation;

/// Kept alarms: enough for an operator to see what happened, older ones are in the log.
const KEPT_MAX: usize = 64;

/// What a node noticed about itself and its peers, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAlarm {
    /// A block's time was so far off this node's clock that it was not attested.
    ClockOffset { height: u64, offset_ms: u64 },
    /// A validator signed another header than this node computed: evidence of a fault.
    Contradiction(Attestation),
}

#[derive(Default)]
pub(crate) struct Alarms(Mutex<VecDeque<NodeAlarm>>);

impl Alarms {
    fn raise(&self, alarm: NodeAlarm) {
        let mut kept = self.0.lock().expect("nobody panics with the lock");
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

    pub fn list(&self) -> Vec<NodeAlarm> {
        self.0
            .lock()
            .expect("nobody panics with the lock")
            .iter()
            .cloned()
            .collect()
    }
}
