use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use lamplighter_types::{Attestation, Hash};

use crate::clock::Clock;

/// Raised alarms that are kept: enough for an operator to see what happened; older ones are in the
/// log.
const RAISED_MAX: usize = 64;

/// A fault that a node noticed in itself or in a peer, for its operator.
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

/// The disk is so full that this node takes no transactions and no part in consensus, before
/// anything breaks. It answers reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFull {
    /// Free space when it was measured last.
    pub free_bytes: u64,
    /// Free space that the node needs.
    pub reserve_bytes: u64,
}

impl fmt::Display for DiskFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "read-only: the disk has {} MiB free and the reserve is {} MiB; free some space and \
             this node goes on by itself",
            mib(self.free_bytes),
            mib(self.reserve_bytes)
        )
    }
}

/// An alarm, and when this node noticed the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedAlarm {
    pub alarm: NodeAlarm,
    /// Unix time in ms, by this node's clock.
    pub time_ms: u64,
}

/// The alarms of one node, in memory.
pub(crate) struct Alarms {
    clock: Arc<dyn Clock>,
    /// Oldest first, at most [`RAISED_MAX`].
    raised: Mutex<VecDeque<RaisedAlarm>>,
    /// The shortage of space that the node's disk monitor reported last, and since when it lasts
    /// (Unix time in ms).
    disk_full: RwLock<Option<(DiskFull, u64)>>,
}

impl Alarms {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            raised: Mutex::default(),
            disk_full: RwLock::default(),
        }
    }

    /// Keeps an alarm; the caller writes it to the log.
    pub fn raise(&self, alarm: NodeAlarm) {
        let time_ms = self.clock.now_ms();
        let mut raised = self
            .raised
            .lock()
            .expect("the lock is not poisoned: no holder panics");
        let same_kind =
            |a: &RaisedAlarm| std::mem::discriminant(&a.alarm) == std::mem::discriminant(&alarm);
        // A clock that is off raises the same alarm at every block: the newest one is kept.
        if matches!(alarm, NodeAlarm::ClockOffset { .. }) {
            raised.retain(|a| !same_kind(a));
        }
        if raised.len() >= RAISED_MAX {
            raised.pop_front();
        }
        raised.push_back(RaisedAlarm { alarm, time_ms });
    }

    /// The kept alarms, and the full disk while it lasts.
    pub fn list(&self) -> Vec<RaisedAlarm> {
        let raised = self
            .raised
            .lock()
            .expect("the lock is not poisoned: no holder panics");
        let disk_full = self.disk_full_since().map(|(full, time_ms)| RaisedAlarm {
            alarm: NodeAlarm::DiskFull(full),
            time_ms,
        });
        raised.iter().cloned().chain(disk_full).collect()
    }

    pub fn set_disk_full(&self, full: Option<DiskFull>) {
        let now_ms = self.clock.now_ms();
        let mut disk_full = self
            .disk_full
            .write()
            .expect("the lock is not poisoned: no holder panics");
        let since_ms = disk_full.map_or(now_ms, |(_, since_ms)| since_ms);
        *disk_full = full.map(|full| (full, since_ms));
    }

    pub fn disk_full(&self) -> Option<DiskFull> {
        self.disk_full_since().map(|(full, _)| full)
    }

    fn disk_full_since(&self) -> Option<(DiskFull, u64)> {
        *self
            .disk_full
            .read()
            .expect("the lock is not poisoned: no holder panics")
    }
}
