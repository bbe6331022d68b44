//! Announcements of the devices that this gateway knows: a digest of all, and where the node finds
//! that the ledger differs, digests of parts and at last names. The node answers with the devices
//! that differ. Whatever is lost on the way is found again by the next announcement, because the
//! difference is still there. No IO.

use std::collections::VecDeque;
use std::time::Duration;

use lamplighter_types::wire::work::{RangeDigest, SyncRequest};
use tokio::time::Instant;

/// Time between two announcements while nothing seems to be missing.
const SYNC_EVERY: Duration = Duration::from_secs(300);
/// After a proof of devices was not accepted, the gateway announces again after this time: by then
/// the node has newer proofs.
const SYNC_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Shortest time between two announcements whose purpose is that open work is proven again.
const PROVE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Answers that wait to be sent. A node that asks for more than that is asked again later.
const ANSWERS_MAX: usize = 1_024;

/// The announcements to the node that the gateway is connected to.
#[derive(Debug, Default)]
pub(super) struct DeviceSync {
    /// Requests that wait to be sent.
    requests: VecDeque<SyncRequest>,
    /// Time of the next announcement; none while there is no connection.
    next_at: Option<Instant>,
    /// Time of the last announcement.
    started_at: Option<Instant>,
}

impl DeviceSync {
    /// Announces the devices by the digest of all.
    pub fn start(&mut self, digest: RangeDigest, now: Instant) {
        self.requests = VecDeque::from([SyncRequest {
            ranges: vec![digest],
            ..SyncRequest::default()
        }]);
        self.next_at = Some(now + SYNC_EVERY);
        self.started_at = Some(now);
    }

    /// Answers a node that asks for a range, unless it asks without end.
    pub fn answer(&mut self, request: impl FnOnce() -> SyncRequest, now: Instant) {
        if self.next_at.is_none() {
            return;
        }
        if self.requests.len() < ANSWERS_MAX {
            self.requests.push_back(request());
        } else {
            self.start_soon(now);
        }
    }

    /// Ends with the connection.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// Announces the devices soon: some are missing, because their proof was not accepted.
    pub fn start_soon(&mut self, now: Instant) {
        let soon = now + SYNC_AGAIN_AFTER;
        self.next_at = self.next_at.map(|next_at| next_at.min(soon));
    }

    /// Announces the devices as soon as the last announcement is not just now: with it the node
    /// sends all open work again, with new proofs. Without a connection that follows by itself.
    pub fn prove_again(&mut self, now: Instant) {
        let at = self
            .started_at
            .map_or(now, |at| now.max(at + PROVE_AGAIN_AFTER));
        self.next_at = self.next_at.map(|next_at| next_at.min(at));
    }

    /// True if it is time for the next announcement.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next_at.is_some_and(|next_at| now >= next_at)
    }

    pub fn has_request(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The next request to send.
    pub fn next_request(&mut self) -> Option<SyncRequest> {
        self.requests.pop_front()
    }
}
