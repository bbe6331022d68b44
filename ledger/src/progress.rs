//! How far a node has come that joins, or was away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lamplighter_consensus::SnapshotTransfer;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::inner::Inner;
use crate::snapshot::Installation;

#[cfg(test)]
mod tests;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two lines of the log while the node is not there yet.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Share of the newest second in the rate that is told: about the last five seconds count.
const RATE_NEWEST: f64 = 0.2;
/// Looks with a leader after which a node that was told of no certified block believes that there
/// is none: the others tell theirs every second.
const UNTOLD_LOOKS: u32 = 3;
/// Blocks behind what others have certified that are only the time which news takes.
const BEHIND_MIN: u64 = 64;

/// What a node is doing to have what the others have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It knows no leader.
    Connecting,
    /// It knows a leader, and not yet what the others have.
    Comparing,
    /// An image of the chain comes in. Counted in bytes.
    Receiving(SnapshotTransfer),
    /// An image replaces what was here. Counted in bytes of keys and values; how many there will be
    /// is not known before.
    Installing(Installation),
    /// It applies the blocks that it lacks. Counted in blocks.
    CatchingUp { blocks_behind: u64 },
    /// It has what the others have.
    Following,
}

/// A phase, and how fast it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub phase: Phase,
    /// Bytes or blocks, as the phase counts.
    pub per_second: f64,
    /// Until the phase ends, where that can be told.
    pub left: Option<Duration>,
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

    /// Where the phase is, in its unit, and what is left of it.
    fn place(&self, height: u64) -> (u64, Option<u64>) {
        match self {
            Self::Connecting | Self::Comparing | Self::Following => (0, None),
            Self::Receiving(transfer) => {
                let left = transfer.bytes_total.saturating_sub(transfer.bytes);
                (transfer.bytes, Some(left))
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
            left: None,
        }
    }
}

/// The phase of this moment.
fn phase(inner: &Inner) -> Phase {
    if let Some(installation) = *inner.installation.borrow() {
        return Phase::Installing(installation);
    }
    let metrics = inner.consensus().metrics();
    if let Some(transfer) = metrics.incoming {
        return Phase::Receiving(transfer);
    }
    // A node that is no member yet hears of no leader either.
    if metrics.leader.is_none() {
        return Phase::Connecting;
    }
    let told = inner.told_height.load(Ordering::Relaxed);
    let blocks_behind = told.saturating_sub(inner.chain.head().height);
    let lag = metrics.last_log_index.unwrap_or(0);
    let unapplied = lag.saturating_sub(metrics.applied_index.unwrap_or(0));
    match blocks_behind.max(unapplied) {
        blocks_behind if blocks_behind > BEHIND_MIN => Phase::CatchingUp { blocks_behind },
        _ => Phase::Following,
    }
}

/// A node that is level with all that it was told of, and was told of nothing, is connected and can
/// serve; it may yet be far behind.
fn believed(phase: Phase, told: bool) -> Phase {
    match phase {
        Phase::Following if !told => Phase::Comparing,
        phase => phase,
    }
}

/// Whether the others have had time to tell what they have.
fn is_told(inner: &Inner, looks: u32) -> bool {
    let told = inner.told_height.load(Ordering::Relaxed) > 0;
    told || looks >= UNTOLD_LOOKS || inner.consensus().is_leader()
}

/// What was seen at the last look.
struct Last {
    name: &'static str,
    place: u64,
    at: Instant,
    per_second: f64,
}

/// Looks every second, and says in the log what it sees while the node is not there yet.
pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let (mut last, mut looks) = (None, 0);
    let mut logged: Option<(Phase, Instant)> = None;
    loop {
        let phase = believed(phase(&inner), is_told(&inner, looks));
        if phase == Phase::Comparing {
            looks += 1;
        }
        let now = measure(phase, inner.chain.head().height, &mut last);
        inner.progress.send_replace(now);
        let changed = logged.is_none_or(|(phase, _)| phase.name() != now.phase.name());
        let due = logged.is_none_or(|(_, at)| at.elapsed() >= LOG_EVERY);
        if changed || (due && now.phase != Phase::Following) {
            log(&inner, &now);
            logged = Some((now.phase, Instant::now()));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Adds the rate, from what was seen before.
fn measure(phase: Phase, height: u64, last: &mut Option<Last>) -> Progress {
    let (place, left) = phase.place(height);
    let (name, at) = (phase.name(), Instant::now());
    let per_second = match last {
        Some(last) if last.name == name => {
            let seconds = (at - last.at).as_secs_f64().max(0.001);
            let newest = place.saturating_sub(last.place) as f64 / seconds;
            match last.per_second > 0.0 {
                true => last.per_second + RATE_NEWEST * (newest - last.per_second),
                false => newest,
            }
        }
        _ => 0.0,
    };
    *last = Some(Last {
        name,
        place,
        at,
        per_second,
    });
    let left = left.filter(|_| per_second >= 1.0);
    let left = left.map(|left| Duration::from_secs((left as f64 / per_second) as u64));
    Progress {
        phase,
        per_second,
        left,
    }
}

fn log(inner: &Inner, now: &Progress) {
    let height = inner.chain.head().height;
    let connected = inner.peers.connected();
    let (phase, left_s) = (now.phase.name(), now.left.map(|left| left.as_secs()));
    let per_second = now.per_second as u64;
    match now.phase {
        Phase::Connecting => tracing::info!(phase, height, ?connected, "connecting to the others"),
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
        Phase::CatchingUp { blocks_behind } => {
            tracing::info!(
                phase,
                height,
                blocks_behind,
                per_second,
                left_s,
                "blocks behind"
            );
        }
        Phase::Following => tracing::info!(phase, height, "this node has what the others have"),
    }
}
