//! The progress of a node that joins, or was away, towards what the other nodes have.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_consensus::{Consensus, SnapshotTransfer};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::apply::snapshot::Installation;
use crate::certify::certifier::Certifier;
use crate::chain::Chain;
use crate::message::Peers;

#[cfg(test)]
mod tests;

/// Time between two measurements.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Time between two lines of the log until the node follows.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Share of the newest second in the rate: about the last five seconds count.
const RATE_NEWEST: f64 = 0.2;
/// Measurements with a leader and without a reported certificate after which a node assumes that
/// there is none: the others report theirs every second.
const UNREPORTED_CHECKS: u32 = 3;
/// Blocks behind the certified height of the others that are only due to the delay of messages.
const BEHIND_MIN: u64 = 64;

/// A node's activity to catch up with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The node knows no leader.
    Connecting,
    /// The node knows a leader, and not yet what the others have.
    Comparing,
    /// An image of the chain is being received. Counted in bytes.
    Receiving(SnapshotTransfer),
    /// An image replaces this node's chain. Counted in bytes of keys and values; the total is not
    /// known in advance.
    Installing(Installation),
    /// The node applies the blocks that it lacks. Counted in blocks.
    CatchingUp { blocks_behind: u64 },
    /// The node has what the others have.
    Following,
}

/// A phase, its rate, and the remaining time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub phase: Phase,
    /// Bytes or blocks, as the phase counts.
    pub per_second: f64,
    /// Time until the phase ends, where that can be estimated.
    pub remaining: Option<Duration>,
}

impl Phase {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Comparing => "comparing",
            Self::Receiving(_) => "receiving",
            Self::Installing(_) => "installing",
            Self::CatchingUp { .. } => "catching_up",
            Self::Following => "following",
        }
    }

    /// The position in the phase and the remaining distance, in the unit of the phase.
    fn position(&self, height: u64) -> (u64, Option<u64>) {
        match self {
            Self::Connecting | Self::Comparing | Self::Following => (0, None),
            Self::Receiving(transfer) => {
                let remaining = transfer.bytes_total.saturating_sub(transfer.bytes);
                (transfer.bytes, Some(remaining))
            }
            Self::Installing(installation) => (installation.bytes, None),
            Self::CatchingUp { blocks_behind } => (height, Some(*blocks_behind)),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            phase: Phase::Connecting,
            per_second: 0.0,
            remaining: None,
        }
    }
}

/// The phase of a node that sees no block ahead: it follows only once peers have reported what they
/// have. Before, it is connected and can serve, but may be far behind.
fn confirmed(phase: Phase, peers_reported: bool) -> Phase {
    match phase {
        Phase::Following if !peers_reported => Phase::Comparing,
        phase => phase,
    }
}

/// One measurement, the base of the next rate.
struct Sample {
    phase: &'static str,
    position: u64,
    at: Instant,
    per_second: f64,
}

/// Measures the progress every second, and logs it until the node follows.
pub(crate) struct ProgressMonitor {
    pub chain: Arc<Chain>,
    pub certifier: Arc<Certifier>,
    pub peers: Arc<dyn Peers>,
    pub consensus: Consensus,
    pub installation: watch::Receiver<Option<Installation>>,
    pub progress: watch::Sender<Progress>,
}

impl ProgressMonitor {
    pub async fn run(self, stop: CancellationToken) {
        let (mut sample, mut unreported) = (None, 0);
        let mut logged: Option<(Phase, Instant)> = None;
        loop {
            let phase = confirmed(self.phase(), self.peers_reported(unreported));
            if phase == Phase::Comparing {
                unreported += 1;
            }
            let progress = measure(phase, self.chain.head().height, &mut sample);
            self.progress.send_replace(progress);
            let changed = logged.is_none_or(|(phase, _)| phase.name() != progress.phase.name());
            let is_due = logged.is_none_or(|(_, at)| at.elapsed() >= LOG_EVERY);
            if changed || (is_due && progress.phase != Phase::Following) {
                self.log(&progress);
                logged = Some((progress.phase, Instant::now()));
            }
            tokio::select! {
                () = tokio::time::sleep(MEASURE_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The phase by what this node sees itself.
    fn phase(&self) -> Phase {
        if let Some(installation) = *self.installation.borrow() {
            return Phase::Installing(installation);
        }
        let metrics = self.consensus.metrics();
        if let Some(transfer) = metrics.incoming {
            return Phase::Receiving(transfer);
        }
        // A node that is no member yet has no leader either.
        if metrics.leader.is_none() {
            return Phase::Connecting;
        }
        let reported = self.certifier.peer_certified_height();
        let blocks_behind = reported.saturating_sub(self.chain.head().height);
        let last_index = metrics.last_log_index.unwrap_or(0);
        let unapplied = last_index.saturating_sub(metrics.applied_index.unwrap_or(0));
        match blocks_behind.max(unapplied) {
            blocks_behind if blocks_behind > BEHIND_MIN => Phase::CatchingUp { blocks_behind },
            _ => Phase::Following,
        }
    }

    /// Returns whether peers had the time to report what they have certified.
    fn peers_reported(&self, unreported: u32) -> bool {
        self.certifier.peer_certified_height() > 0
            || unreported >= UNREPORTED_CHECKS
            || self.consensus.is_leader()
    }

    fn log(&self, progress: &Progress) {
        let height = self.chain.head().height;
        let connected = self.peers.connected();
        let (phase, left_s) = (
            progress.phase.name(),
            progress.remaining.map(|d| d.as_secs()),
        );
        let per_second = progress.per_second as u64;
        match progress.phase {
            Phase::Connecting => {
                tracing::info!(phase, height, ?connected, "connecting to the others");
            }
            Phase::Comparing => {
                tracing::info!(phase, height, ?connected, "asking what the others have");
            }
            Phase::Receiving(SnapshotTransfer {
                bytes,
                bytes_total,
                bytes_before,
                ..
            }) => tracing::info!(
                phase,
                bytes,
                bytes_total,
                bytes_before,
                per_second,
                left_s,
                "an image of the chain comes in"
            ),
            Phase::Installing(Installation { height, bytes }) => {
                tracing::info!(phase, height, bytes, per_second, "an image is installed");
            }
            Phase::CatchingUp { blocks_behind } => tracing::info!(
                phase,
                height,
                blocks_behind,
                per_second,
                left_s,
                "blocks behind"
            ),
            Phase::Following => {
                tracing::info!(phase, height, "this node has what the others have");
            }
        }
    }
}

/// Adds the rate since the last sample of the same phase, smoothed, and the remaining time.
fn measure(phase: Phase, height: u64, last: &mut Option<Sample>) -> Progress {
    let (position, remaining) = phase.position(height);
    let at = Instant::now();
    let per_second = match last {
        Some(last) if last.phase == phase.name() => {
            let seconds = (at - last.at).as_secs_f64().max(0.001);
            let newest = position.saturating_sub(last.position) as f64 / seconds;
            if last.per_second > 0.0 {
                last.per_second + RATE_NEWEST * (newest - last.per_second)
            } else {
                newest
            }
        }
        _ => 0.0,
    };
    *last = Some(Sample {
        phase: phase.name(),
        position,
        at,
        per_second,
    });
    let remaining = remaining.filter(|_| per_second >= 1.0);
    let remaining = remaining.map(|units| Duration::from_secs((units as f64 / per_second) as u64));
    Progress {
        phase,
        per_second,
        remaining,
    }
}
