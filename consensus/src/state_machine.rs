use std::error::Error;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;

use crate::types::NodeId;

/// A committed log entry on its way into the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its index in the log; consecutive from one entry to the next.
    pub log_index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// The position after this entry, which the state machine stores (see
    /// [`StateMachine::apply`]).
    pub marker: Vec<u8>,
    /// The batch; none for an entry that only concerns consensus itself.
    pub batch: Option<Bytes>,
}

/// A failure of this node alone, for instance of its disk. It stops the node.
#[derive(Debug, thiserror::Error)]
#[error("the state machine failed")]
pub struct Fatal(#[source] pub Box<dyn Error + Send + Sync>);

impl Fatal {
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// The rejection of an image from another node. The node continues without it.
#[derive(Debug, thiserror::Error)]
#[error("the image is not accepted")]
pub struct Rejected(#[source] pub Box<dyn Error + Send + Sync>);

impl Rejected {
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// The state to which committed batches are applied. All methods but the async one may block.
///
/// # Duties
///
/// - **Deterministic.** The same batches in the same order lead to the same state and the same
///   responses on every node: no clock, no randomness, nothing of this machine. A batch that is
///   nonsense is deterministic too: it is applied as "nothing happened", with a response that says
///   so. [`Fatal`] is only for failures that another node need not have.
/// - **Atomic with the marker.** An entry's effect and its marker are written in one atomic write,
///   or the effects of several entries with the marker of the last. The write may be unsynced, in
///   the store of consensus ([`crate::Consensus::start`]), whose log holds the entry already.
/// - **Safe to re-apply.** After a crash the state may be an earlier one; the entries after its
///   marker then come again.
/// - **Stops on failure.** After [`Fatal`] nothing more is applied and the node stops.
#[async_trait]
pub trait StateMachine: Send + Sync + 'static {
    /// The marker of the last applied entry, none when nothing was applied yet.
    fn applied(&self) -> Result<Option<Vec<u8>>, Fatal>;

    /// Applies entries in order; one response for each, empty for an entry without a batch. Every
    /// entry's marker has to be stored, those without a batch included, but where several entries
    /// are written at once the last one's is enough.
    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Fatal>;

    /// Tells whether this node may acknowledge a batch now that a leader sent; false means "not
    /// yet": the leader sends it again. Unlike everything else here the answer may follow from this
    /// machine alone, its clock for instance. It is no judgement of a batch that is committed: that
    /// is applied whatever this says.
    fn may_acknowledge(&self, batch: &Bytes) -> bool {
        let _ = batch;
        true
    }

    /// Returns whether the entry `ahead` places after the last applied one is known to be
    /// committed, whatever leaders say. It is acknowledged then, also if its batch may not be.
    fn is_committed(&self, ahead: u64) -> bool {
        let _ = ahead;
        false
    }

    /// Takes note of a batch that a leader sent, and that this node may not acknowledge yet. It
    /// made the batch in this term, or has it in its log from an earlier one.
    fn on_early_batch(&self, leader: NodeId, batch: &Bytes, is_proposer: bool) {
        let _ = (leader, batch, is_proposer);
    }

    /// Tells whether this node follows that node as its leader and votes for it. A leader that too
    /// few follow is replaced by an election.
    fn may_follow(&self, leader: NodeId) -> bool {
        let _ = leader;
        true
    }

    /// Writes an image of the state into a directory that does not exist yet (its parent does), as
    /// regular files without subdirectories, and returns the marker *that is in the image*, none if
    /// it has none. Entries may be applied meanwhile. When it returns the image is on disk.
    fn build_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Fatal>;

    /// Adds the proof by which other nodes accept an image of this node, and returns when that is
    /// on disk. It may take as long as the other nodes need for their part; until then the image is
    /// not sent and the log that it replaces is kept. A second call for the same image changes
    /// nothing. Dropping the future leaves the image as it was.
    async fn seal_snapshot(&self, dir: &Path) -> Result<(), Fatal>;

    /// Checks an image from another node, which may have any content, before a byte of the state is
    /// replaced; returns the marker that is in it.
    fn check_snapshot(&self, dir: &Path) -> Result<Option<Vec<u8>>, Rejected>;

    /// Replaces the state by an image that [`check_snapshot`](Self::check_snapshot) has accepted.
    /// When it returns the new state and its marker are durable; after a crash in between the
    /// state is the old or the new one, or the state machine continues the installation when it is
    /// opened again, before consensus starts. The directory stays.
    fn install_snapshot(&self, dir: &Path) -> Result<(), Fatal>;
}
