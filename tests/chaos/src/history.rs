//! The history of the clients: their requests and the answers, recorded during the run and checked
//! afterwards.

use lamplighter_types::{Hash, Id};

/// The position of a receipt in the chain, with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptPosition {
    pub height: u64,
    /// Index in the block.
    pub index: u32,
    /// blake3 of the receipt's bytes.
    pub receipt: Hash,
    pub succeeded: bool,
}

/// The definite answer of a node about a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitAnswer {
    /// The transaction is in a block.
    Receipt(ReceiptPosition),
    /// The transaction is in no block; the stable code.
    Refused(String),
}

/// An answer with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedAnswer {
    pub at_us: u64,
    pub answer: SubmitAnswer,
}

/// A transaction that a client signed. Times are microseconds since the run began, by the monotonic
/// clock of the one process in which all clients are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRecord {
    pub transaction: Hash,
    /// The time before it was first sent.
    pub invoked_us: u64,
    /// Unix time in ms from which on it may be in no block.
    pub expires_ms: u64,
    /// Definite answers; more than one if it was submitted again.
    pub answers: Vec<TimedAnswer>,
}

impl WriteRecord {
    /// The first receipt, with its time.
    pub fn acknowledged(&self) -> Option<(u64, ReceiptPosition)> {
        self.answers.iter().find_map(|answer| match answer.answer {
            SubmitAnswer::Receipt(place) => Some((answer.at_us, place)),
            SubmitAnswer::Refused(_) => None,
        })
    }
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// A configuration document that clients replace in turn.
    Register {
        name: String,
        version: u64,
        /// blake3 of the document.
        document: Hash,
    },
    /// The count of a device's events, and the highest number of one.
    Device {
        device: Id,
        count: u64,
        highest: u64,
    },
    Organization(Id),
    /// The organization does not exist; such an answer has no height.
    NoOrganization(Id),
}

/// A read by a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    pub invoked_us: u64,
    pub at_us: u64,
    /// Height of the state that was read, by the node's answer; 0 for
    /// [`ReadResult::NoOrganization`].
    pub height: u64,
    /// The least height that the client asked for.
    pub min_height: u64,
    /// True if the client asked for a linearizable read.
    pub linearizable: bool,
    pub result: ReadResult,
}

/// All writes and reads of the clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub writes: Vec<WriteRecord>,
    pub reads: Vec<ReadRecord>,
}
