//! The Raft log and the vote in the store.
//!
//! In [`Cf::Log`] the key is the log index (u64, big-endian) and the value the entry; in
//! [`Cf::Meta`] are the vote, the last committed and the last purged log id.

mod durability;
mod recent;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use lamplighter_store::{Batch, Cf, Direction, Durability as Write, KeyRange, Kv, StoreError};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, ErrorSubject, ErrorVerb, LogState, RaftLogReader, StorageIOError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

pub(crate) use self::durability::Durability;
use self::recent::{Recent, Slot};
use crate::codec::{self, CodecError, Marker};
use crate::config::Limits;
use crate::error::ConsensusError;
use crate::io::{Guarded, Io};
use crate::machine::StateMachine;
use crate::raft::{Entry, LogId, StorageError, TypeConfig, Vote};

const VOTE: &[u8] = b"raft/vote";
const COMMITTED: &[u8] = b"raft/committed";
const PURGED: &[u8] = b"raft/purged";

/// A handle to the log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Shared>);

struct Shared {
    kv: Arc<dyn Kv>,
    io: Io,
    limits: Limits,
    recent: Mutex<Recent>,
    durability: Arc<Durability>,
    /// Bytes of entries appended since the last snapshot was asked for.
    grown_bytes: AtomicU64,
    grown: Notify,
    /// An image is being installed, see [`LogStore::hold_purges`].
    purges_held: AtomicBool,
    /// Bytes of entries appended since the last image was made.
    kept_bytes: AtomicU64,
    _syncer: Guarded,
}

impl LogStore {
    /// Opens the log in a store, and makes everything that is found there durable: after the end
    /// of a mere process some of it may still be on its way to the disk.
    pub(crate) async fn open(
        kv: Arc<dyn Kv>,
        io: Io,
        limits: Limits,
    ) -> Result<Self, ConsensusError> {
        let store = kv.clone();
        let found = io.run(move || find_ends(&*store).and_then(|ends| store.sync().map(|()| ends)));
        let (last, purged) = found.await.map_err(|source| ConsensusError::Store {
            doing: "open the log",
            source,
        })?;
        let corrupt = |error: CodecError| ConsensusError::Corrupt(error.to_string());
        let purged: Option<LogId> = purged
            .map(|bytes| codec::decode("log id", &bytes))
            .transpose()
            .map_err(corrupt)?;
        let last = last.map(codec::get_entry).transpose().map_err(corrupt)?;
        let recent = Recent::new(last.map(|entry| entry.log_id).or(purged), purged);
        let durability = Arc::new(Durability::new());
        let syncer = Guarded::spawn(durability.clone().run(kv.clone(), io));
        Ok(Self(Arc::new(Shared {
            kv,
            io,
            limits,
            recent: Mutex::new(recent),
            durability,
            grown_bytes: AtomicU64::new(0),
            grown: Notify::new(),
            purges_held: AtomicBool::new(false),
            kept_bytes: AtomicU64::new(0),
            _syncer: syncer,
        })))
    }

    /// Waits until the entry of this index, and all before it, are on disk.
    pub(crate) async fn durable(&self, index: u64) -> Result<(), Arc<StoreError>> {
        let written = self.recent().written(index);
        self.0.durability.wait(written).await
    }

    /// Waits until everything that was written up to now is on disk.
    pub(crate) async fn all_durable(&self) -> Result<(), Arc<StoreError>> {
        self.0.durability.wait_all().await
    }

    /// How often the log was synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.durability.syncs()
    }

    /// Purges nothing until [`release_purges`](Self::release_purges). openraft asks for the purge
    /// of what an image replaces when it has merely begun to install it: a crash would leave a log
    /// without the state that it stands on.
    pub(crate) fn hold_purges(&self) {
        self.0.purges_held.store(true, Ordering::SeqCst);
    }

    /// The image is in the state, or will not be.
    pub(crate) fn release_purges(&self) {
        self.0.purges_held.store(false, Ordering::SeqCst);
    }

    /// Bytes appended since [`begin_image`](Self::begin_image).
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.0.kept_bytes.load(Ordering::Relaxed)
    }

    /// An image is being made.
    pub(crate) fn begin_image(&self) {
        self.0.kept_bytes.store(0, Ordering::Relaxed);
    }

    /// Waits until so many bytes were appended that there should be a snapshot.
    pub(crate) async fn grown(&self) {
        loop {
            self.0.grown.notified().await;
            let limit = self.0.limits.snapshot_every_bytes;
            if self.0.grown_bytes.load(Ordering::Relaxed) >= limit {
                self.0.grown_bytes.store(0, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Makes this node forget that it led, as a restarted leader must not go on in the same term
    /// (see the documentation of the crate). Its vote in that term stays.
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

    /// The index of the last purged entry, if the state machine has not applied that much.
    pub(crate) fn ahead_of(
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

    /// Up to where the log was removed.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.recent().purged()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0
            .recent
            .lock()
            .expect("no code panics while it holds this lock")
    }

    async fn write(&self, batch: Batch, durability: Write) -> Result<(), StoreError> {
        let kv = self.0.kv.clone();
        let write = move || kv.write(batch, durability);
        match durability {
            Write::Synced => self.0.io.sync(write).await,
            Write::Unsynced => self.0.io.run(write).await,
        }
    }

    async fn put<T: Serialize>(
        &self,
        key: &'static [u8],
        value: &T,
        durability: Write,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(Cf::Meta, key, codec::encode(value));
        self.write(batch, durability).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        key: &'static [u8],
    ) -> Result<Option<T>, StorageError> {
        let kv = self.0.kv.clone();
        let found = self.0.io.run(move || kv.get(Cf::Meta, key)).await;
        let found = found.map_err(|error| failed(ErrorSubject::Store, ErrorVerb::Read, &error))?;
        let decode = |bytes: bytes::Bytes| codec::decode("record of consensus", &bytes);
        found
            .map(decode)
            .transpose()
            .map_err(|error| failed(ErrorSubject::Store, ErrorVerb::Read, &error))
    }

    /// Entries from `start` to before `end`, at least one if there is one, and no more than fit
    /// into `bytes_max`.
    async fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StorageError> {
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

    async fn append_entries(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let mut slots = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for entry in entries {
            let mut value = Vec::with_capacity(codec::entry_bytes(&entry));
            codec::put_entry(&entry, &mut value);
            bytes += value.len();
            slots.push(Slot {
                bytes: value.len(),
                entry,
                written: 0,
            });
            let index = slots[slots.len() - 1].entry.log_id.index;
            batch.put(Cf::Log, key(index), value);
        }
        self.write(batch, Write::Unsynced).await?;
        {
            let mut recent = self.recent();
            let written = self.0.durability.written();
            let synced = self.0.durability.synced();
            recent.append(slots, written, synced, self.0.limits.cache_bytes_max);
        }
        self.0
            .grown_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.kept_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.grown.notify_one();
        Ok(())
    }

    /// Removes the entries from this index on.
    async fn truncate_from(&self, index: u64) -> Result<(), AnyError> {
        let mut batch = Batch::new();
        batch.delete_range(Cf::Log, KeyRange::starting_at(key(index)));
        self.write(batch, Write::Unsynced)
            .await
            .map_err(|error| AnyError::new(&error))?;
        self.0.durability.written();
        let kv = self.0.kv.clone();
        let ends = self.0.io.run(move || find_ends(&*kv)).await;
        let (last, _) = ends.map_err(|error| AnyError::new(&error))?;
        let last = last
            .map(codec::get_entry)
            .transpose()
            .map_err(|error| AnyError::new(&error))?;
        self.recent()
            .truncate(index, last.map(|entry| entry.log_id));
        Ok(())
    }
}

fn key(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

type Found = (Option<bytes::Bytes>, Option<bytes::Bytes>);

/// The last entry and the record of the last purge.
fn find_ends(kv: &dyn Kv) -> Result<Found, StoreError> {
    let mut entries = kv.scan(Cf::Log, KeyRange::all(), Direction::Backward)?;
    let last = entries.next().transpose()?.map(|(_, value)| value);
    Ok((last, kv.get(Cf::Meta, PURGED)?))
}

fn read_entries(
    kv: &dyn Kv,
    start: u64,
    end: u64,
    bytes_max: usize,
) -> Result<Vec<Entry>, AnyError> {
    let range = KeyRange::between(key(start), key(end));
    let scan = kv
        .scan(Cf::Log, range, Direction::Forward)
        .map_err(|error| AnyError::new(&error))?;
    let mut entries = Vec::new();
    let mut bytes = 0usize;
    for found in scan {
        let (_, value) = found.map_err(|error| AnyError::new(&error))?;
        bytes = bytes.saturating_add(value.len());
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        entries.push(codec::get_entry(value).map_err(|error| AnyError::new(&error))?);
    }
    Ok(entries)
}

pub(crate) fn failed<E: std::error::Error + 'static>(
    subject: ErrorSubject<u64>,
    verb: ErrorVerb,
    error: &E,
) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}

fn limits_of(range: impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let (start, end) = limits_of(range);
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, self.0.limits.append_bytes_max).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let recent = self.recent();
        Ok(LogState {
            last_purged_log_id: recent.purged(),
            last_log_id: recent.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// A vote that is given must outlive everything, so it is synced.
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.put(VOTE, vote, Write::Synced)
            .await
            .map_err(|error| failed(ErrorSubject::Vote, ErrorVerb::Write, &error))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.get(VOTE).await
    }

    /// Written behind the entries that it is about, so where it is found they are too; if it is
    /// lost, the leader tells again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.put(COMMITTED, &committed, Write::Unsynced)
            .await
            .map_err(|error| failed(ErrorSubject::Store, ErrorVerb::Write, &error))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.get(COMMITTED).await?.flatten())
    }

    /// Tells openraft that the entries are there as soon as they are written. What may only follow
    /// once they are durable waits elsewhere (see the documentation of the crate).
    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        match self.append_entries(entries).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let failure = failed(ErrorSubject::Logs, ErrorVerb::Write, &error);
                callback.log_io_completed(Err(std::io::Error::other(error)));
                Err(failure)
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.truncate_from(log_id.index)
            .await
            .map_err(|error| StorageIOError::write_logs(error).into())
    }

    /// Unsynced: it stands in the write-ahead log behind the effects of what it removes, so it is
    /// never durable without them. One that is held comes again: after an installation by the
    /// adapter, else with the next purge.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        if self.0.purges_held.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(Cf::Meta, PURGED, codec::encode(&log_id));
        let end = log_id.index.saturating_add(1);
        batch.delete_range(Cf::Log, KeyRange::between(key(0), key(end)));
        self.write(batch, Write::Unsynced)
            .await
            .map_err(|error| failed(ErrorSubject::Log(log_id), ErrorVerb::Delete, &error))?;
        self.recent().purge(log_id);
        Ok(())
    }
}
