//! Counts of messages that were not taken, for the log.

use std::fmt;
use std::net::SocketAddr;

/// Bytes of a key id in the log: as many as an id may have.
const ID_BYTES_MAX: usize = 7;

/// Why a protected message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RejectReason {
    /// It is no message of OSCORE, or has blocks outside.
    Malformed,
    /// The file of keys has none of this id, or with another id context.
    UnknownContext,
    /// Its number was used before.
    Replayed,
    /// It was made with another key, or changed on the way.
    Undecryptable,
}

/// The counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RejectCounts {
    pub(super) malformed: u64,
    pub(super) unknown_keys: u64,
    pub(super) replayed: u64,
    pub(super) undecryptable: u64,
    /// Requests that may have been of before the start, and were to be repeated with a value.
    pub(super) challenged: u64,
    /// Responses that answer no request, or that the Thing did not make.
    pub(super) responses: u64,
}

/// The newest message that was not taken.
#[derive(Debug, Clone)]
pub(super) struct Rejected {
    pub(super) address: SocketAddr,
    pub(super) reason: RejectReason,
    /// The id of the key that it names, in hexadecimal.
    pub(super) key_id: String,
}

impl Rejected {
    pub(super) fn new(address: SocketAddr, reason: RejectReason, kid: Option<&[u8]>) -> Rejected {
        let id = kid.unwrap_or_default();
        let key_id = hex::encode(&id[..id.len().min(ID_BYTES_MAX)]);
        Rejected {
            address,
            reason,
            key_id,
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, address) = (self.reason, self.address);
        write!(f, "{reason:?} from {address}, key id {:?}", self.key_id)
    }
}

impl RejectCounts {
    pub(super) fn add(&mut self, reason: RejectReason) {
        let count = match reason {
            RejectReason::Malformed => &mut self.malformed,
            RejectReason::UnknownContext => &mut self.unknown_keys,
            RejectReason::Replayed => &mut self.replayed,
            RejectReason::Undecryptable => &mut self.undecryptable,
        };
        *count += 1;
    }
}
