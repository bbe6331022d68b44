//! Lanes: independent streams of one link, so that bulk data never delays urgent messages.

pub(crate) mod client;
pub(crate) mod server;

use std::fmt;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Bytes of the headers that a lane's user adds to a 4 MiB payload.
const ENVELOPE_BYTES: usize = 64 * KIB;

/// One persistent stream of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Raft heartbeats and votes: small, urgent.
    Control,
    /// Raft log entries.
    Append,
    /// Signatures on headers and artifacts.
    Attestation,
    /// Transactions for the leader.
    Transactions,
    /// Certificates and artifacts for a node that is behind.
    Sync,
    /// Raft snapshots.
    Snapshot,
}

/// The limits of one lane; a part of the protocol, so equal on all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Bytes of the body of a request, an answer or a notification.
    pub frame_bytes_max: usize,
    /// Requests of one side without an answer.
    pub requests_max: usize,
    /// Sum of the bodies of those requests; the same for notifications that wait.
    pub bytes_max: usize,
    /// Frames that wait to be written.
    pub queue_max: usize,
}

impl Lane {
    /// Every lane, in the order of [`Lane::index`].
    pub const ALL: [Lane; 6] = [
        Lane::Control,
        Lane::Append,
        Lane::Attestation,
        Lane::Transactions,
        Lane::Sync,
        Lane::Snapshot,
    ];

    /// The position in [`Lane::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The libp2p protocol name of the lane's stream.
    pub const fn protocol(self) -> &'static str {
        match self {
            Lane::Control => "/lamplighter/control/1",
            Lane::Append => "/lamplighter/append/1",
            Lane::Attestation => "/lamplighter/attestation/1",
            Lane::Transactions => "/lamplighter/transactions/1",
            Lane::Sync => "/lamplighter/sync/1",
            Lane::Snapshot => "/lamplighter/snapshot/1",
        }
    }

    /// The lane's limits. A frame of Append, Sync and Snapshot takes a 4 MiB payload and its
    /// envelope; Transactions takes a whole batch (2 MiB). Many small requests go to
    /// Transactions, which waits for commits; few big ones to the bulk lanes, whose answers are
    /// held in memory until they are written.
    pub const fn limits(self) -> LaneLimits {
        let (frame_bytes_max, requests_max, bytes_max, queue_max) = match self {
            Lane::Control => (256 * KIB, 64, 4 * MIB, 256),
            Lane::Append => (4 * MIB + ENVELOPE_BYTES, 16, 32 * MIB, 32),
            Lane::Attestation => (256 * KIB, 64, 4 * MIB, 1024),
            Lane::Transactions => (2 * MIB + ENVELOPE_BYTES, 1024, 32 * MIB, 1024),
            Lane::Sync => (4 * MIB + ENVELOPE_BYTES, 16, 16 * MIB, 32),
            Lane::Snapshot => (4 * MIB + ENVELOPE_BYTES, 4, 16 * MIB, 16),
        };
        LaneLimits {
            frame_bytes_max,
            requests_max,
            bytes_max,
            queue_max,
        }
    }

    pub(crate) fn from_protocol(name: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.protocol() == name)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lane::Control => "control",
            Lane::Append => "append",
            Lane::Attestation => "attestation",
            Lane::Transactions => "transactions",
            Lane::Sync => "sync",
            Lane::Snapshot => "snapshot",
        })
    }
}

#[cfg(test)]
mod tests;
