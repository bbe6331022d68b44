use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{NodeId, TransportError};

/// Bytes of the largest request or answer on any lane: one append of 4 MiB, or a single entry
/// with the largest batch, with room for what goes around it.
pub const FRAME_BYTES_MAX: usize = 8 << 20;

/// Kinds of traffic that must not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes and questions about the read index: small and urgent.
    Control,
    /// Log entries and heartbeats.
    Append,
    /// Pieces of snapshots: large and patient.
    Snapshot,
}

/// How requests get to the other nodes, and their answers back.
///
/// Requests may be lost, delayed, repeated and overtake each other. The receiving side hands them
/// to [`crate::Consensus::serve`] with the identity of the sender, *which it has to have proven*.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and waits for the answer, at most for the given time. May be dropped while
    /// it waits.
    async fn call(
        &self,
        to: NodeId,
        lane: Lane,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError>;
}
