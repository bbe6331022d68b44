//! The headers that are worth a signature. A certificate covers the ancestors of its header, so not
//! every header needs one; but all validators have to sign the same headers, or no quorum meets.
//!
//! A header is signed at once when it is the first one in an interval of block time: every node
//! computes that from the header and its parent, so all sign the same ones. On a quiet chain that
//! is every header. What else is signed comes from a node, and the others follow it:
//! - the newest header, when none has been certified for a while: the last one of a burst;
//! - every header while a caller of some node waits for a certificate ([`CertificateDemand`]);
//! - a header that another validator signed.
//!
//! So at most every header is signed, once, whatever other nodes send, and at least one in each
//! interval (ADR 26).

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The interval of block time whose first header is signed.
pub(crate) const INTERVAL_MS: u64 = 50;
/// The time without a certificate after which the newest header is signed. It is longer than the
/// interval, in which blocks that follow each other quickly get one by their time.
pub(crate) const UNCERTIFIED_AFTER: Duration = Duration::from_millis(100);
/// The time for which a demand is met.
const DEMAND_FOR: Duration = Duration::from_secs(1);
/// Time between two announcements of a demand that lasts.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);

/// Returns whether a header is the first one in its interval.
pub(crate) fn begins_interval(parent_ms: u64, header_ms: u64) -> bool {
    parent_ms / INTERVAL_MS != header_ms / INTERVAL_MS
}

/// A reason to sign headers beside their time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CertificateDemand {
    /// Until then every header is signed.
    pub until: Option<Instant>,
    /// The number of announcements that this node owes to the others.
    pub announcements: u64,
    /// The highest header of this node's chain that another validator signed.
    pub attested: u64,
    announced: Option<Instant>,
}

impl CertificateDemand {
    pub fn lasts(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// The demand for certificates, from callers of this node and from other nodes.
#[derive(Default)]
pub(crate) struct Demands {
    newest: watch::Sender<CertificateDemand>,
    /// The highest header that this node signed since it started.
    signed: AtomicU64,
}

impl Demands {
    pub fn watch(&self) -> watch::Receiver<CertificateDemand> {
        self.newest.subscribe()
    }

    pub fn newest(&self) -> CertificateDemand {
        *self.newest.borrow()
    }

    /// Records that a caller of this node waits for a certificate, or will.
    pub fn record_local(&self) {
        let now = Instant::now();
        self.newest.send_if_modified(|demand| {
            let lately = |at| now.saturating_duration_since(at) < ANNOUNCE_EVERY;
            if demand.announced.is_some_and(lately) {
                return false;
            }
            demand.announced = Some(now);
            demand.announcements += 1;
            demand.until = Some(now + DEMAND_FOR);
            true
        });
    }

    /// Records that a caller of another node waits for a certificate. Whoever announces that
    /// without end gets every header signed once, and no more.
    pub fn record_remote(&self) {
        let now = Instant::now();
        self.newest.send_if_modified(|demand| {
            let lasts = demand
                .until
                .map(|until| until.saturating_duration_since(now));
            let is_new = lasts.is_none_or(|lasts| lasts + ANNOUNCE_EVERY / 2 < DEMAND_FOR);
            if is_new {
                demand.until = Some(now + DEMAND_FOR);
            }
            is_new
        });
    }

    pub fn record_signed(&self, height: u64) {
        self.signed.fetch_max(height, Ordering::Relaxed);
    }

    /// Records that another validator signed at a height of this node's chain.
    pub fn record_attested(&self, height: u64) {
        if height <= self.signed.load(Ordering::Relaxed) {
            return;
        }
        self.newest.send_if_modified(|demand| {
            let newer = height > demand.attested;
            demand.attested = height.max(demand.attested);
            newer
        });
    }
}
