use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{NodeId, TransportError};

/// Bytes of the largest request or answer on any lane: one append of 4 MiB, or a single entry
/// with the largest batch, and their headers.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

/// A kind of traffic that must not wait for another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RaftLane {
    /// Votes and questions about the read index: small and urgent.
    Control,
    /// Log entries and heartbeats.
    Append,
    /// Pieces of snapshots: large and not urgent.
    Snapshot,
}

/// Carries requests to the other nodes, and their answers back.
///
/// Requests may be lost, delayed, repeated and reordered. The receiving side passes them to
/// [`crate::Consensus::serve`] with the identity of the sender, *which it has to have proven*.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and waits for the answer, at most for the given time. May be dropped while
    /// it waits.
    async fn call(
        &self,
        to: NodeId,
        lane: RaftLane,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError>;
}
