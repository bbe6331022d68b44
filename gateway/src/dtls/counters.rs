//! Counts of what happened to datagrams and handshakes.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counts, which tasks share.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) openings: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) established: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) sessions_ended: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) overflowed: AtomicU64,
}

/// The counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Hellos that were answered with a cookie, or silently dropped, without any state.
    pub openings: u64,
    /// Handshakes begun, by Things whose cookie proved their address.
    pub handshakes: u64,
    /// Handshakes that ended with a session.
    pub established: u64,
    /// Handshakes that ended without: too slow, another key, an unknown identity, no room.
    pub handshakes_failed: u64,
    /// Sessions that ended: closed by the Thing, replaced by its next one, idle, or out of room.
    pub sessions_ended: u64,
    /// Datagrams that are no records, belong to no session, or do not decrypt.
    pub refused: u64,
    /// Datagrams that the CoAP endpoint was too busy for.
    pub overflowed: u64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> SessionCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SessionCounts {
            openings: read(&self.openings),
            handshakes: read(&self.handshakes),
            established: read(&self.established),
            handshakes_failed: read(&self.handshakes_failed),
            sessions_ended: read(&self.sessions_ended),
            refused: read(&self.refused),
            overflowed: read(&self.overflowed),
        }
    }
}
