//! The recovery of a node whose log has to go.
//!
//! The node stops taking part, notes durably that it diverged, and is started again: the start
//! drops log and state, keeps everything by which others rely on this node, and the node catches up
//! like a new one, under its identity.
//!
//! # What stays
//!
//! The vote, so that it votes once in a term. The attested headers, so that it never signs two of
//! one height. Identity, evidence, and what `dropped` names. And the **vote floor**: the last log
//! id that may be committed with this node's copy, which is gone. So until its log reaches the
//! floor again it grants no vote to a candidate behind the floor, and does not stand for election
//! itself. A candidate at the floor or after it has all committed entries, or was elected against a
//! quorum of nodes that do.
//!
//! A content that the rule found dead is held by no quorum from its first entry on, and nothing
//! behind that was ever committed: the floor is the entry before. (A floor behind it would be one
//! that no other node ever reaches, if the liar made more entries for this node than for others.)
//! When a certificate contradicts the log, it is not known where it went wrong: the floor is the
//! end of the log, and once the liar is proven, the entry before its last leaderships. Entries of
//! those that are committed are safe without this node's vote: of `n` voters, `f` of which may
//! lie, a certificate contradicts `n - q` honest ones at most, a committed entry is with `q - f`,
//! and a candidate without it, which no proven liar votes for, would need `2q - n > n - q` of them
//! to have dropped it (for six voters, of whom two may have dropped a log, it is as many).
//!
//! # A crash between any two steps
//!
//! 1. `raft.shutdown`: nothing is acknowledged or voted any more. A crash after it: the node starts
//!    as it was, and finds the difference again.
//! 2. The note with the floor, synced, in one write. A crash before it is that of step 1; the
//!    synced note also makes all entries before it durable, so the floor is not above a log that a
//!    crash shortened: it would only be stricter if it were.
//! 3. The next start sees the note, removes the images of the dropped state, and writes one synced
//!    batch: log, committed and purged log id, and the state's families are deleted, floor and
//!    place are kept, the note is removed. A crash before the batch: the note is there, the start
//!    does all of it again; removing images twice is the same. A crash after it: an empty node with
//!    a floor, which is the result.
//!
//! The batch is one write because every part of it alone would be wrong: a log without the state
//! before it, a state that is beyond its log, a floor that is lost with the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lamplighter_store::{Cf, Durability, KeyRange, Kv, KvView, StoreError, WriteBatch};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::blocking_io::BlockingIo;
use crate::codec;
use crate::dropped::{DROPPED, DeadContents};
use crate::electorate::Electorate;
use crate::error::ConsensusError;
use crate::log::{COMMITTED, LogStore, PURGED};
use crate::type_config::Raft;
use crate::types::LogId;

const DIVERGED: &[u8] = b"raft/diverged";
const FLOOR: &[u8] = b"raft/floor";
/// How often a log is dropped for a certificate before it has grown beyond the place. More than
/// once happens when a leader goes on lying; a fault of this node itself is not mended by dropping.
/// Drops by the rule of `divergence` are not counted: each is of a content that is not taken again.
const DROPS_MAX: u8 = 3;

/// The vote floor, and where the state was when the log was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct VoteFloor {
    /// The last log id that this node may have acknowledged.
    log_id: Option<LogId>,
    /// The last applied index of the dropped state.
    applied: u64,
    /// How often the log was dropped for a difference up to there.
    drops: u8,
}

/// Stops a node whose log has to go.
pub(crate) struct Recovery {
    raft: Raft,
    log: LogStore,
    kv: Arc<dyn Kv>,
    io: BlockingIo,
    electorate: Arc<dyn Electorate>,
    floor: VoteFloor,
    /// This node must not stand for election for another reason.
    passive: AtomicBool,
    /// Why this node diverged, set when the note is durable; locked meanwhile.
    diverged: Mutex<Option<String>>,
}

impl Recovery {
    pub(crate) fn new(
        raft: Raft,
        log: LogStore,
        kv: Arc<dyn Kv>,
        io: BlockingIo,
        electorate: Arc<dyn Electorate>,
    ) -> Result<Self, ConsensusError> {
        let recovery = Self {
            floor: read(&*kv, FLOOR)?.unwrap_or_default(),
            electorate,
            raft,
            log,
            kv,
            io,
            passive: AtomicBool::new(false),
            diverged: Mutex::new(None),
        };
        recovery.allow_elections();
        Ok(recovery)
    }

    /// Lets this node stand for election, if nothing is against it.
    pub(crate) fn allow_elections(&self) {
        let reached = self.log.last() >= self.floor();
        let allowed = reached && !self.passive.load(Ordering::SeqCst);
        self.raft.runtime_config().elect(allowed);
    }

    /// Sets whether this node must not stand for election for another reason than the floor.
    pub(crate) fn set_passive(&self, passive: bool) {
        self.passive.store(passive, Ordering::SeqCst);
        self.allow_elections();
    }

    /// Waits until the log has reached the floor, and allows elections then.
    pub(crate) async fn await_floor(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        while self.log.last() < self.floor() {
            if metrics.changed().await.is_err() {
                return;
            }
        }
        self.allow_elections();
    }

    /// The log id that a candidate has to have reached to get this node's vote.
    pub(crate) fn floor(&self) -> Option<LogId> {
        let is_excluded = |node| self.electorate.is_excluded(node);
        let before_liars = self.log.dropped().before_liars(is_excluded);
        before_liars.unwrap_or(self.floor.log_id)
    }

    /// The last applied index.
    pub(crate) fn applied(&self) -> u64 {
        let applied = self.raft.metrics().borrow().last_applied;
        applied.map_or(0, |log_id| log_id.index)
    }

    /// The reason for which this node diverged, if it did; waits while that is being noted.
    pub(crate) async fn diverged(&self) -> Option<String> {
        self.diverged.lock().await.clone()
    }

    /// Stops this node for good and notes that its log has to go, see the module. `dead` has
    /// the contents at the first index at which the log differs from those of the others, if the
    /// rule of `divergence` decided; otherwise a certificate contradicts the log. Called twice, it
    /// does nothing more.
    ///
    /// # Errors
    /// [`ConsensusError::DivergedAgain`] if the log was dropped for a certificate at the same place
    /// several times: whatever is wrong here, one more would not mend it. The node stays as it is.
    pub(crate) async fn diverge(
        &self,
        reason: &str,
        dead: Option<&DeadContents>,
    ) -> Result<(), ConsensusError> {
        let mut diverged = self.diverged.lock().await;
        if diverged.is_some() {
            return Ok(());
        }
        let applied = self.applied();
        let again = self.floor.log_id.is_some() && applied <= self.floor.applied;
        let drops = if again { self.floor.drops } else { 0 } + u8::from(dead.is_none());
        if drops > DROPS_MAX {
            return Err(ConsensusError::DivergedAgain(reason.to_owned()));
        }
        // It may have failed before, which stopped it as well.
        if let Err(error) = self.raft.shutdown().await {
            tracing::debug!(%error, "consensus had stopped");
        }
        let mut batch = self.noted(dead);
        let floor = VoteFloor {
            log_id: match dead {
                Some(dead) => self.log_id_before(dead.index).await.map_err(note_failed)?,
                None => self.log.last().max(self.floor()),
            },
            applied: applied.max(self.floor.applied),
            drops,
        };
        batch.put(Cf::Meta, DIVERGED, codec::encode(&floor));
        let kv = self.kv.clone();
        let write = move || kv.write(batch, Durability::Synced);
        self.io.sync(write).await.map_err(note_failed)?;
        tracing::error!(reason, "this node's log is not the others': it is dropped");
        *diverged = Some(reason.to_owned());
        Ok(())
    }

    /// Refuses contents that this node does not hold, durably and for good, unless its log goes
    /// meanwhile. The caller lets no append be under way.
    pub(crate) async fn refuse(&self, dead: &DeadContents) -> Result<(), StoreError> {
        let diverged = self.diverged.lock().await;
        let next = self.log.dropped().refusing(dead);
        let Some(next) = next.filter(|_| diverged.is_none()) else {
            return Ok(());
        };
        let mut batch = WriteBatch::new();
        batch.put(Cf::Meta, DROPPED, codec::encode(&next));
        let kv = self.kv.clone();
        let write = move || kv.write(batch, Durability::Synced);
        self.io.sync(write).await?;
        self.log.set_dropped(next);
        let DeadContents { index, digests } = dead;
        tracing::warn!(index, ?digests, "contents of a proven liar are refused");
        Ok(())
    }

    /// What is kept of the log beside the floor.
    fn noted(&self, dead: Option<&DeadContents>) -> WriteBatch {
        let ends = self.log.made_ends();
        let statements = self.log.newest_statements();
        let dropped = self.log.dropped().with(dead, statements, ends);
        let mut batch = WriteBatch::new();
        batch.put(Cf::Meta, DROPPED, codec::encode(&dropped));
        batch
    }

    async fn log_id_before(&self, index: u64) -> Result<Option<LogId>, StoreError> {
        match index.checked_sub(1) {
            Some(before) => Ok(self.log.end(before).await?.map(|end| end.log_id)),
            None => Ok(None),
        }
    }
}

fn note_failed(source: StoreError) -> ConsensusError {
    ConsensusError::Store {
        operation: "note that this node's log has to go",
        source,
    }
}

fn read(kv: &dyn KvView, key: &'static [u8]) -> Result<Option<VoteFloor>, ConsensusError> {
    let bytes = kv
        .get(Cf::Meta, key)
        .map_err(|source| ConsensusError::Store {
            operation: "read the vote floor",
            source,
        })?;
    let decode = |bytes: bytes::Bytes| codec::decode("vote floor", &bytes);
    let floor = bytes.map(decode).transpose();
    floor.map_err(|error| ConsensusError::Corrupt(error.to_string()))
}

/// True if the node noted that its log has to go, and [`reset`] was not done since.
pub fn has_diverged(kv: &dyn KvView) -> Result<bool, ConsensusError> {
    Ok(read(kv, DIVERGED)?.is_some())
}

/// Drops log and state of a node that noted it, before state machine and consensus are opened;
/// returns whether there was a note. `also` adds what the state machine has outside of the shared
/// column families to the one write.
pub fn reset(
    kv: &dyn Kv,
    snapshots: &Path,
    also: impl FnOnce(&mut WriteBatch),
) -> Result<bool, ConsensusError> {
    let Some(floor) = read(kv, DIVERGED)? else {
        return Ok(false);
    };
    let failed = |source: StoreError| ConsensusError::Store {
        operation: "drop the log that differs from the others'",
        source,
    };
    match std::fs::remove_dir_all(snapshots) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(StoreError::io("remove", snapshots)(error)));
        }
        Ok(()) | Err(_) => {}
    }
    let mut batch = WriteBatch::new();
    for cf in Cf::ALL.into_iter().filter(|cf| cf.is_shared()) {
        batch.delete_range(cf, KeyRange::all());
    }
    batch.delete_range(Cf::Log, KeyRange::all());
    for key in [COMMITTED, PURGED, DIVERGED] {
        batch.delete(Cf::Meta, key);
    }
    batch.put(Cf::Meta, FLOOR, codec::encode(&floor));
    also(&mut batch);
    kv.write(batch, Durability::Synced).map_err(failed)?;
    tracing::warn!(
        ?floor,
        "log and state are dropped: this node catches up from the others"
    );
    Ok(true)
}

#[cfg(test)]
mod tests;
