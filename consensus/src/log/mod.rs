//! The Raft log and the vote in the store.
//!
//! [`Cf::Log`] maps a log index (u64, big-endian) to its entry and the digest of the log up to it
//! (see [`chain`]). [`Cf::Meta`] has the vote, the last committed log id, and the last purged one
//! with the digest up to there.

mod chain;
mod disk;
mod held;
mod openraft_storage;
mod received;
mod recent;
mod sync_tracker;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use lamplighter_store::{Cf, Durability, KeyRange, Kv, StoreError, WriteBatch};
use openraft::storage::RaftLogStorage;
use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageIOError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use self::chain::LinkedStatement;
pub(crate) use self::chain::{AuthoredEntry, ChainEnd};
pub use self::chain::{ChainLink, LogDigest, StoredEntry};
pub(crate) use self::disk::storage_error;
use self::disk::{
    find_ends, key, read_authored, read_digests, read_entries, read_received, read_statement_from,
    read_stored,
};
use self::received::ReceivedStatements;
use self::recent::{CachedEntry, RecentEntries};
use self::sync_tracker::SyncTracker;
use crate::blocking_io::BlockingIo;
use crate::codec::{self, CodecError};
use crate::config::Limits;
use crate::dropped::DroppedLogs;
use crate::election::Candidacy;
use crate::error::ConsensusError;
use crate::evidence::LINKS_MAX;
use crate::state_machine::StateMachine;
use crate::statement::LeaderStatement;
use crate::type_config::RaftLogEntry;
use crate::types::{LogId, Marker, NodeId, StorageError};

const VOTE: &[u8] = b"raft/vote";
pub(crate) const COMMITTED: &[u8] = b"raft/committed";
pub(crate) const PURGED: &[u8] = b"raft/purged";

/// A handle to the log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<LogInner>);

struct LogInner {
    kv: Arc<dyn Kv>,
    io: BlockingIo,
    limits: Limits,
    recent: Mutex<RecentEntries>,
    /// Statements about entries that are on their way into the log.
    received: Mutex<ReceivedStatements>,
    /// The last entry that openraft reported as committed since the start.
    committed: watch::Sender<Option<LogId>>,
    /// Begins when the vote of this node for itself is stored.
    candidacy: OnceLock<Arc<Candidacy>>,
    syncs: Arc<SyncTracker>,
    /// Bytes of entries appended since a snapshot was last requested.
    bytes_since_request: AtomicU64,
    /// Notified after each append.
    appended: Notify,
    /// A snapshot is being installed, see [`LogStore::hold_purges`].
    purges_held: AtomicBool,
    /// Bytes of entries appended since a snapshot was last made.
    bytes_since_image: AtomicU64,
    /// Entries may follow an unknown digest: only in openraft's own test suite, which begins logs
    /// anywhere.
    unbound: AtomicBool,
    /// What is kept of the logs that this node dropped.
    dropped: Mutex<Arc<DroppedLogs>>,
    _syncer: AbortOnDropHandle<()>,
}

impl LogStore {
    /// Lets entries follow an unknown digest.
    #[cfg(any(test, feature = "suite"))]
    pub(crate) fn unbind(&self) {
        self.0.unbound.store(true, Ordering::Relaxed);
    }

    /// Opens the log in a store, and makes all of it durable: when only the process ended before,
    /// some of it may still be in the memory of the operating system.
    pub(crate) async fn open(
        kv: Arc<dyn Kv>,
        io: BlockingIo,
        limits: Limits,
    ) -> Result<Self, ConsensusError> {
        let store = kv.clone();
        let failed = |source| ConsensusError::Store {
            operation: "open the log",
            source,
        };
        let ends = io.run(move || find_ends(&*store).and_then(|ends| store.sync().map(|()| ends)));
        let (last, purged) = ends.await.map_err(failed)?;
        let corrupt = |error: CodecError| ConsensusError::Corrupt(error.to_string());
        let purged: Option<ChainEnd> = purged
            .map(|bytes| codec::decode("end of the log", &bytes))
            .transpose()
            .map_err(corrupt)?;
        let last = last.map(StoredEntry::decode).transpose().map_err(corrupt)?;
        let store = kv.clone();
        let received = io.run(move || read_received(&*store, LINKS_MAX)).await;
        let received = received.map_err(failed)?;
        let dropped = DroppedLogs::read(&*kv).map_err(failed)?;
        let recent = RecentEntries::new(last.map(|last| last.end()).or(purged), purged);
        let syncs = Arc::new(SyncTracker::new());
        let syncer = tokio::spawn(syncs.clone().run(kv.clone(), io));
        Ok(Self(Arc::new(LogInner {
            kv,
            io,
            limits,
            recent: Mutex::new(recent),
            received: Mutex::new(received),
            committed: watch::Sender::default(),
            candidacy: OnceLock::new(),
            syncs,
            bytes_since_request: AtomicU64::new(0),
            appended: Notify::new(),
            purges_held: AtomicBool::new(false),
            bytes_since_image: AtomicU64::new(0),
            unbound: AtomicBool::new(false),
            dropped: Mutex::new(Arc::new(dropped)),
            _syncer: AbortOnDropHandle::new(syncer),
        })))
    }

    /// Waits until the entry of this index, and all before it, are on disk.
    pub(crate) async fn durable(&self, index: u64) -> Result<(), Arc<StoreError>> {
        let write = self.recent().write_number(index);
        self.0.syncs.wait(write).await
    }

    /// Waits until everything that was written up to now is on disk.
    pub(crate) async fn all_durable(&self) -> Result<(), Arc<StoreError>> {
        self.0.syncs.wait_all().await
    }

    /// The number of syncs of the log.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.syncs.count()
    }

    /// Purges nothing until [`release_purges`](Self::release_purges). openraft requests the purge
    /// of the log that a snapshot replaces as soon as it begins the installation: a crash would
    /// leave a log without the state before it.
    pub(crate) fn hold_purges(&self) {
        self.0.purges_held.store(true, Ordering::SeqCst);
    }

    /// Allows purges again: the snapshot is in the state, or its installation failed.
    pub(crate) fn release_purges(&self) {
        self.0.purges_held.store(false, Ordering::SeqCst);
    }

    /// Bytes appended since [`start_image`](Self::start_image).
    pub(crate) fn bytes_since_image(&self) -> u64 {
        self.0.bytes_since_image.load(Ordering::Relaxed)
    }

    /// Records that a snapshot is being made.
    pub(crate) fn start_image(&self) {
        self.0.bytes_since_image.store(0, Ordering::Relaxed);
    }

    /// Waits until the bytes appended since the last request are enough for a new snapshot.
    pub(crate) async fn snapshot_due(&self) {
        loop {
            self.0.appended.notified().await;
            let limit = self.0.limits.snapshot_every_bytes;
            if self.0.bytes_since_request.load(Ordering::Relaxed) >= limit {
                self.0.bytes_since_request.store(0, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Removes this node's leadership from the stored vote, as a restarted leader must not continue
    /// in the same term (see the documentation of the crate). Its vote in that term stays.
    pub(crate) async fn resign(&mut self, node_id: u64) -> Result<(), StorageError> {
        let Some(mut vote) = RaftLogStorage::read_vote(self).await? else {
            return Ok(());
        };
        if vote.committed && vote.leader_id.node_id == node_id {
            vote.committed = false;
            RaftLogStorage::save_vote(self, &vote).await?;
        }
        Ok(())
    }

    /// The index of the last purged entry, if the state machine has not applied it.
    pub(crate) fn purged_beyond(
        &self,
        machine: &dyn StateMachine,
    ) -> Result<Option<u64>, ConsensusError> {
        let applied = machine.applied();
        let applied = applied.map_err(|error| ConsensusError::Corrupt(error.to_string()))?;
        let marker: Option<Marker> = applied
            .map(|marker| codec::decode("marker", &marker))
            .transpose()
            .map_err(|error| ConsensusError::Corrupt(error.to_string()))?;
        let applied = marker.map(|marker| marker.log_id.index);
        let purged = self.recent().purged().map(|log_id| log_id.index);
        Ok(purged.filter(|purged| applied < Some(*purged)))
    }

    /// The last entry of the log, purged ones included.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.recent().last()
    }

    /// The last entry that openraft reported as committed since the start.
    pub(crate) fn committed(&self) -> Option<LogId> {
        *self.0.committed.borrow()
    }

    /// Connects the candidacy, which begins with a stored vote.
    pub(crate) fn connect(&self, candidacy: Arc<Candidacy>) {
        let set = self.0.candidacy.set(candidacy);
        assert!(set.is_ok(), "a node starts openraft once");
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.recent().purged()
    }

    fn recent(&self) -> MutexGuard<'_, RecentEntries> {
        self.0
            .recent
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Records where the log of the applied state ends, which its marker says.
    pub(crate) fn set_applied(&self, end: ChainEnd) {
        self.recent().set_applied(end);
    }

    /// The digest of a cached entry.
    pub(crate) fn cached_digest(&self, log_id: LogId) -> Option<LogDigest> {
        self.recent().digest(log_id)
    }

    /// The log id and the digest at this index, if they are known.
    pub(crate) async fn end(&self, index: u64) -> Result<Option<ChainEnd>, StoreError> {
        if let Some(end) = self.recent().end(index) {
            return Ok(Some(end));
        }
        let kv = self.0.kv.clone();
        let stored = self.0.io.run(move || read_stored(&*kv, index)).await?;
        Ok(stored.map(|stored| stored.end()))
    }

    /// The digest of the log up to this entry, none if the log does not have this very entry.
    pub(crate) async fn digest(&self, log_id: LogId) -> Result<Option<LogDigest>, StoreError> {
        let end = self.end(log_id.index).await?;
        Ok(end
            .filter(|end| end.log_id == log_id)
            .and_then(|end| end.digest))
    }

    /// The digests of the entries from `start` to `end` that the log has.
    pub(crate) async fn digests(
        &self,
        start: u64,
        end: u64,
    ) -> Result<Vec<(u64, LogDigest)>, StoreError> {
        if let Some(digests) = self.recent().digests(start, end) {
            return Ok(digests);
        }
        let kv = self.0.kv.clone();
        self.0.io.run(move || read_digests(&*kv, start, end)).await
    }

    /// The entries from `start` to `end`, as they are signed, that the log has.
    pub(crate) async fn authored(
        &self,
        start: u64,
        end: u64,
    ) -> Result<Vec<AuthoredEntry>, StoreError> {
        if let Some(authored) = self.recent().authored(start, end) {
            return Ok(authored);
        }
        let kv = self.0.kv.clone();
        self.0.io.run(move || read_authored(&*kv, start, end)).await
    }

    /// The first statement of a leadership about an entry from this index on.
    pub(crate) async fn statement_from(
        &self,
        index: u64,
        leadership: (u64, NodeId),
    ) -> Result<Option<LinkedStatement>, StoreError> {
        let kv = self.0.kv.clone();
        let read = move || read_statement_from(&*kv, index, leadership, LINKS_MAX);
        self.0.io.run(read).await
    }

    /// Keeps a leader's statement, which was verified, for the entry that it is about.
    pub(crate) fn receive(&self, statement: LeaderStatement) {
        self.received().add(statement);
    }

    /// What the last leaderships signed about this log, see `received`.
    pub(crate) fn newest_statements(&self) -> Vec<LeaderStatement> {
        self.received().newest()
    }

    /// The last entry that each of the last leaderships made, in the order of the log.
    pub(crate) fn made_ends(&self) -> Vec<LogId> {
        self.received().ends()
    }

    /// What is kept of the logs that this node dropped.
    pub(crate) fn dropped(&self) -> Arc<DroppedLogs> {
        self.dropped_record().clone()
    }

    /// Keeps the record of dropped logs, which is durable, from now on.
    pub(crate) fn set_dropped(&self, dropped: DroppedLogs) {
        *self.dropped_record() = Arc::new(dropped);
    }

    fn dropped_record(&self) -> MutexGuard<'_, Arc<DroppedLogs>> {
        self.0
            .dropped
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// The digest before an entry that is to be appended: the last one, or one of an earlier entry
    /// in memory.
    fn digest_before(&self, index: u64) -> Result<LogDigest, StoreError> {
        let Some(before) = index.checked_sub(1) else {
            return Ok(LogDigest::EMPTY);
        };
        let recent = self.recent();
        let digest = recent.end(before).and_then(|end| end.digest);
        if digest.is_none() && self.0.unbound.load(Ordering::Relaxed) {
            return Ok(LogDigest::EMPTY);
        }
        digest.ok_or_else(|| StoreError::Failed {
            what: format!("the digest of the log up to entry {before} is not known"),
        })
    }

    fn received(&self) -> MutexGuard<'_, ReceivedStatements> {
        self.0
            .received
            .lock()
            .expect("no code panics while it holds this lock")
    }

    async fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        let kv = self.0.kv.clone();
        let write = move || kv.write(batch, durability);
        match durability {
            Durability::Synced => self.0.io.sync(write).await,
            Durability::Unsynced => self.0.io.run(write).await,
        }
    }

    async fn put<T: Serialize>(
        &self,
        key: &'static [u8],
        value: &T,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Meta, key, codec::encode(value));
        self.write(batch, durability).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        key: &'static [u8],
    ) -> Result<Option<T>, StorageError> {
        let kv = self.0.kv.clone();
        let found = self.0.io.run(move || kv.get(Cf::Meta, key)).await;
        let found =
            found.map_err(|error| storage_error(ErrorSubject::Store, ErrorVerb::Read, &error))?;
        let decode = |bytes: bytes::Bytes| codec::decode("record of consensus", &bytes);
        found
            .map(decode)
            .transpose()
            .map_err(|error| storage_error(ErrorSubject::Store, ErrorVerb::Read, &error))
    }

    /// The entries from `start` to before `end`: as many as fit into `bytes_max`, but at least one
    /// if there is one.
    async fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Vec<RaftLogEntry>, StorageError> {
        if let Some(entries) = self.recent().get(start, end, bytes_max) {
            return Ok(entries);
        }
        let kv = self.0.kv.clone();
        let read = self
            .0
            .io
            .run(move || read_entries(&*kv, start, end, bytes_max))
            .await;
        read.map_err(|error| StorageIOError::read_logs(error).into())
    }

    async fn append_entries(&self, entries: Vec<RaftLogEntry>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        let mut cached = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        let mut digest = match entries.first() {
            Some(first) => self.digest_before(first.log_id.index)?,
            None => return Ok(()),
        };
        for entry in entries {
            digest = digest.after(&entry);
            let stored = {
                let mut received = self.received();
                let statements = received.store(entry.log_id.index, digest);
                let stored = StoredEntry::new(entry, digest, &statements);
                received.add_entry(&stored);
                stored
            };
            let value = stored.encode();
            let length = value.len();
            bytes += length;
            batch.put(Cf::Log, key(stored.entry.log_id.index), value);
            cached.push(CachedEntry {
                bytes: length,
                stored,
                write_number: 0,
            });
        }
        // Behind its entries: where it is, they are.
        if let Some(committed) = self.committed() {
            batch.put(Cf::Meta, COMMITTED, codec::encode(&Some(committed)));
        }
        self.write(batch, Durability::Unsynced).await?;
        {
            let mut recent = self.recent();
            let write = self.0.syncs.record_write();
            let synced = self.0.syncs.synced();
            recent.append(cached, write, synced, self.0.limits.cache_bytes_max);
        }
        self.0
            .bytes_since_request
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.0
            .bytes_since_image
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.appended.notify_one();
        Ok(())
    }

    /// Removes the entries from this index on.
    async fn truncate_from(&self, index: u64) -> Result<(), AnyError> {
        let mut batch = WriteBatch::new();
        batch.delete_range(Cf::Log, KeyRange::starting_at(key(index)));
        self.write(batch, Durability::Unsynced)
            .await
            .map_err(|error| AnyError::new(&error))?;
        self.0.syncs.record_write();
        let kv = self.0.kv.clone();
        let ends = self.0.io.run(move || find_ends(&*kv)).await;
        let (last, _) = ends.map_err(|error| AnyError::new(&error))?;
        let last = last
            .map(StoredEntry::decode)
            .transpose()
            .map_err(|error| AnyError::new(&error))?;
        self.received().truncate(last.as_ref());
        self.recent().truncate(index, last.map(|last| last.end()));
        Ok(())
    }
}
