//! What the clients did and were told: written down while it happens, judged afterwards.

use lamplighter_types::{Hash, Id};

/// Where a receipt is and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub height: u64,
    /// Among the transactions of the block.
    pub index: u32,
    /// blake3 of the receipt's bytes.
    pub receipt: Hash,
    pub succeeded: bool,
}

/// What a node said of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is in a block.
    Receipt(Place),
    /// It can be in no block; the stable code.
    Refused(String),
}

/// An answer, and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub at_us: u64,
    pub said: Said,
}

/// A transaction that a client signed. Times are microseconds since the run began, by the monotonic
/// clock of the one process in which all clients are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub transaction: Hash,
    /// Before it was first sent.
    pub invoked_us: u64,
    /// Unix time in ms from which on no block may take it.
    pub expires_ms: u64,
    /// Empty when nothing definite was heard of it. More than one when it was asked for again.
    pub answers: Vec<Answer>,
}

impl Write {
    /// The first receipt, and when it came.
    pub fn acknowledged(&self) -> Option<(u64, Place)> {
        self.answers.iter().find_map(|answer| match answer.said {
            Said::Receipt(place) => Some((answer.at_us, place)),
            Said::Refused(_) => None,
        })
    }
}

/// What a read showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A configuration document that clients replace in turn.
    Register {
        name: String,
        version: u64,
        /// blake3 of the document.
        document: Hash,
    },
    /// How many events of a device came, and the highest number of one.
    Device {
        device: Id,
        count: u64,
        highest: u64,
    },
    Organization(Id),
    /// There was none of this name; such an answer does not say its height.
    NoOrganization(Id),
}

/// A read by a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub invoked_us: u64,
    pub at_us: u64,
    /// Of the state that was read, as the node said; 0 for [`Seen::NoOrganization`].
    pub height: u64,
    /// What the client asked for at least.
    pub min_height: u64,
    /// Whether the client asked for everything that was acknowledged before.
    pub linearizable: bool,
    pub seen: Seen,
}

/// All that clients did and saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
}
