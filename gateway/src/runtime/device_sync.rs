//! Announcements of the devices that this gateway knows; the node answers with the differences. No
//! IO.

use std::collections::VecDeque;
use std::time::Duration;

use lamplighter_types::wire::work::{DevicesHeld, SyncRequest};
use tokio::time::Instant;

/// Time between two announcements while nothing seems to be missing.
const SYNC_EVERY: Duration = Duration::from_secs(300);
/// After a proof of devices was not accepted, the gateway announces again after this time: by then
/// the node has newer proofs.
const SYNC_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The announcements to the node that the gateway is connected to.
#[derive(Debug, Default)]
pub(super) struct DeviceSync {
    /// Ranges that wait to be sent.
    ranges: VecDeque<DevicesHeld>,
    /// Time of the next announcement; none while there is no connection.
    next_at: Option<Instant>,
}

impl DeviceSync {
    /// Announces the devices.
    pub fn start(&mut self, ranges: Vec<DevicesHeld>, now: Instant) {
        self.ranges = ranges.into();
        self.next_at = Some(now + SYNC_EVERY);
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

    /// True if it is time for the next announcement.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next_at.is_some_and(|next_at| now >= next_at)
    }

    pub fn has_request(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// The next request to send.
    pub fn next_request(&mut self) -> Option<SyncRequest> {
        let range = self.ranges.pop_front()?;
        Some(SyncRequest {
            since: None,
            devices: Some(range),
        })
    }
}
