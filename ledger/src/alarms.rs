use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use lamplighter_types::protocol::PROTOCOL_VERSION;
use lamplighter_types::{Attestation, Hash, PublicKey};
use tokio::time::Instant;

use crate::clock::Clock;

#[cfg(test)]
mod tests;

/// Alarms that are kept: enough for an operator to see what happened; older ones are in the log.
const KEPT_MAX: usize = 64;
/// The time for which another header of a validator is no alarm yet: this node's own header is
/// certified by then, if the fault is the validator's alone.
const DIVERGENCE_AFTER: Duration = Duration::from_secs(5);

/// A fault that a node noticed in itself or in a peer, for its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAlarm {
    /// A block's time was so far off this node's clock that it was not attested.
    ClockOffset { height: u64, offset_ms: u64 },
    /// This node's clock is off those of a quorum: it does not lead.
    ClockDiffers {
        /// The distance of the others, positive if they are ahead.
        offset_ms: i64,
    },
    /// A leader proposed a batch so far ahead of this node's clock that it was not acknowledged.
    EarlyBatch { leader: u64, ahead_ms: u64 },
    /// A committed batch was malformed, or followed none that this node has.
    VoidBatch { log_index: u64 },
    /// A validator signed another header than this node computed, and neither is certified. It
    /// accuses nobody.
    Divergence(Attestation),
    /// A validator signed two headers for one height: evidence against its key.
    DoubleAttestation(Box<[Attestation; 2]>),
    /// A node is proven to have signed two contents for one place; the file has the evidence. The
    /// node is excluded from consensus.
    Equivocation {
        node: u64,
        key: PublicKey,
        file: String,
    },
    /// The node that leads is none that the ledger lets lead.
    LeaderNoElector { leader: u64 },
    /// A validator has no vote in consensus.
    ValidatorNoVoter { node: u64 },
    /// The logs of the validators differ, and none of them went for some time.
    LogsDiffer { log_index: u64 },
    /// The disk is nearly full: the node is read-only until there is space.
    DiskFull(DiskFull),
    /// An artifact's bytes on this disk were damaged; it was moved aside and is fetched again.
    DamagedArtifact(Hash),
    /// The chain will run a protocol version that this program does not know: the node stops there.
    NewerProtocol { version: u32, from_height: u64 },
}

impl NodeAlarm {
    /// Returns whether a node with this alarm is not ready to serve.
    pub fn is_unready(&self) -> bool {
        match self {
            Self::ClockDiffers { .. }
            | Self::VoidBatch { .. }
            | Self::Divergence(_)
            | Self::LeaderNoElector { .. }
            | Self::ValidatorNoVoter { .. }
            | Self::LogsDiffer { .. }
            | Self::DiskFull(_) => true,
            Self::ClockOffset { .. }
            | Self::EarlyBatch { .. }
            | Self::DoubleAttestation(_)
            | Self::Equivocation { .. }
            | Self::DamagedArtifact(_)
            | Self::NewerProtocol { .. } => false,
        }
    }

    /// Returns whether a newer alarm takes the place of this one.
    fn is_replaced_by(&self, newer: &Self) -> bool {
        match (self, newer) {
            (Self::ClockOffset { .. }, Self::ClockOffset { .. })
            | (Self::VoidBatch { .. }, Self::VoidBatch { .. }) => true,
            (Self::Divergence(old), Self::Divergence(new)) => old.key == new.key,
            (Self::DoubleAttestation(old), Self::DoubleAttestation(new)) => {
                old[0].key == new[0].key
            }
            (Self::Equivocation { node: old, .. }, Self::Equivocation { node: new, .. }) => {
                old == new
            }
            (old, new) => old == new,
        }
    }
}

impl fmt::Display for NodeAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockOffset { height, offset_ms } => write!(
                f,
                "block {height} was not signed: its time is {offset_ms} ms off this node's clock"
            ),
            Self::ClockDiffers { offset_ms } => write!(
                f,
                "the clocks of the other validators are {offset_ms} ms off this node's: it does \
                 not lead"
            ),
            Self::EarlyBatch { leader, ahead_ms } => write!(
                f,
                "node {leader} leads with a clock that is {ahead_ms} ms ahead of this node's: it \
                 is not followed"
            ),
            Self::VoidBatch { log_index } => write!(
                f,
                "the batch at log index {log_index} is void on this node: it does not follow the \
                 last block, or is malformed"
            ),
            Self::Divergence(Attestation {
                height,
                header,
                key,
                signature: _,
            }) => write!(
                f,
                "this node and the validator with the key {key}, which signed the header {header}, \
                 differ at block {height}, and neither header is certified"
            ),
            Self::DoubleAttestation(both) => write!(
                f,
                "the validator with the key {} signed two headers for block {}: {} and {}",
                both[0].key, both[0].height, both[0].header, both[1].header
            ),
            Self::Equivocation { node, key, file } => write!(
                f,
                "node {node} (key {key}) signed two contents for one place and is excluded from \
                 consensus: {file} proves it; remove the node from the validators"
            ),
            Self::LeaderNoElector { leader } => write!(
                f,
                "node {leader} leads, and is no validator that the ledger lets lead"
            ),
            Self::ValidatorNoVoter { node } => {
                write!(f, "the validator {node} has no vote in consensus")
            }
            Self::LogsDiffer { log_index } => write!(
                f,
                "a lying leader left the validators with different logs from log index \
                 {log_index} on, and no rule tells which of them may be certified: people have to \
                 decide, unless a certificate or another proof comes"
            ),
            Self::DiskFull(full) => full.fmt(f),
            Self::DamagedArtifact(artifact) => write!(
                f,
                "the artifact {artifact} was damaged on this disk; it was moved aside and is \
                 fetched again"
            ),
            Self::NewerProtocol {
                version,
                from_height,
            } => write!(
                f,
                "this node stops at block {from_height}, where protocol version {version} begins: \
                 it knows versions up to {PROTOCOL_VERSION}; install a newer release before"
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

/// An alarm that an event raised.
struct KeptAlarm {
    raised: RaisedAlarm,
    at: Instant,
    /// The height whose certificate on this node ends it.
    until_certified: Option<u64>,
}

impl KeptAlarm {
    fn is_shown(&self) -> bool {
        let is_divergence = matches!(self.raised.alarm, NodeAlarm::Divergence(_));
        !is_divergence || self.at.elapsed() >= DIVERGENCE_AFTER
    }
}

/// The alarms of one node, in memory.
pub(crate) struct Alarms {
    clock: Arc<dyn Clock>,
    /// Oldest first, at most [`KEPT_MAX`].
    kept: Mutex<VecDeque<KeptAlarm>>,
    /// Faults that last, as the health monitor measured them; a few for each validator.
    lasting: Mutex<Vec<RaisedAlarm>>,
    /// The shortage of space that the node's disk monitor reported last, and since when it lasts
    /// (Unix time in ms).
    disk_full: RwLock<Option<(DiskFull, u64)>>,
}

impl Alarms {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            kept: Mutex::default(),
            lasting: Mutex::default(),
            disk_full: RwLock::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<KeptAlarm>> {
        self.kept
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    fn lasting(&self) -> MutexGuard<'_, Vec<RaisedAlarm>> {
        self.lasting
            .lock()
            .expect("the lock is not poisoned: no holder panics")
    }

    /// Keeps an alarm; the caller writes it to the log.
    pub fn raise(&self, alarm: NodeAlarm) {
        self.keep(alarm, None);
    }

    /// Keeps an alarm until this node's header at `height` is certified.
    pub fn raise_until_certified(&self, alarm: NodeAlarm, height: u64) {
        self.keep(alarm, Some(height));
    }

    /// A fault that goes on raises the same alarm again and again: the newest is kept, with the
    /// time of the first.
    fn keep(&self, alarm: NodeAlarm, until_certified: Option<u64>) {
        let (mut time_ms, mut at) = (self.clock.now_ms(), Instant::now());
        let mut kept = self.kept();
        if let Some(place) = kept
            .iter()
            .position(|k| k.raised.alarm.is_replaced_by(&alarm))
            && let Some(old) = kept.remove(place)
        {
            (time_ms, at) = (old.raised.time_ms, old.at);
        }
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(KeptAlarm {
            raised: RaisedAlarm { alarm, time_ms },
            at,
            until_certified,
        });
    }

    /// Ends the alarm that this node did not sign a block.
    pub fn clear_clock_offset(&self) {
        self.kept()
            .retain(|k| !matches!(k.raised.alarm, NodeAlarm::ClockOffset { .. }));
    }

    /// Ends the alarms that this certificate of this node's own header ends.
    pub fn on_certified(&self, certified: u64) {
        self.kept()
            .retain(|k| k.until_certified.is_none_or(|height| height > certified));
    }

    /// Replaces the faults that last.
    pub fn set_lasting(&self, alarms: Vec<NodeAlarm>) {
        let now_ms = self.clock.now_ms();
        let mut lasting = self.lasting();
        let since = |alarm: &NodeAlarm| {
            let same = |old: &&RaisedAlarm| is_same_fault(&old.alarm, alarm);
            lasting.iter().find(same).map(|old| old.time_ms)
        };
        let raised = alarms.into_iter().map(|alarm| {
            let since_ms = since(&alarm);
            if since_ms.is_none() {
                tracing::error!("{alarm}");
            }
            RaisedAlarm {
                time_ms: since_ms.unwrap_or(now_ms),
                alarm,
            }
        });
        *lasting = raised.collect();
    }

    /// All alarms: the kept ones, the faults that last, and the full disk.
    pub fn list(&self) -> Vec<RaisedAlarm> {
        let disk_full = self.disk_full_since().map(|(full, time_ms)| RaisedAlarm {
            alarm: NodeAlarm::DiskFull(full),
            time_ms,
        });
        let kept = self.kept();
        let shown = kept.iter().filter(|k| k.is_shown());
        let shown = shown.map(|k| k.raised.clone());
        shown
            .chain(self.lasting().iter().cloned())
            .chain(disk_full)
            .collect()
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

/// Returns whether two alarms are of one fault; how large it is may change.
fn is_same_fault(a: &NodeAlarm, b: &NodeAlarm) -> bool {
    match (a, b) {
        (NodeAlarm::ClockDiffers { .. }, NodeAlarm::ClockDiffers { .. }) => true,
        (NodeAlarm::EarlyBatch { leader: a, .. }, NodeAlarm::EarlyBatch { leader: b, .. }) => {
            a == b
        }
        (a, b) => a == b,
    }
}
