//! The log as openraft's `RaftLogStorage`.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::atomic::Ordering;

use lamplighter_store::{Cf, Durability, KeyRange, StoreError, WriteBatch};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, ErrorSubject, ErrorVerb, LogState, RaftLogReader, StorageIOError};

use super::disk::{bounds, key, storage_error};
use super::{COMMITTED, ChainEnd, LogStore, PURGED, VOTE};
use crate::codec;
use crate::type_config::{RaftLogEntry, TypeConfig};
use crate::types::{LogId, StorageError, Vote};

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftLogEntry>, StorageError> {
        let (start, end) = bounds(range);
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftLogEntry>, StorageError> {
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

    /// Writes the vote synced: a vote that was given must survive every crash.
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.put(VOTE, vote, Durability::Synced)
            .await
            .map_err(|error| storage_error(ErrorSubject::Vote, ErrorVerb::Write, &error))?;
        if let Some(candidacy) = self.0.candidacy.get() {
            candidacy.stand(vote, self.last());
        }
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.get(VOTE).await
    }

    /// Keeps the committed index in memory; it is written with the next entries, see
    /// `append_entries`. Until then the marker of the state says what was applied, and the rest the
    /// leader announces again, as after a crash that loses an unsynced write.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.0.committed.send_replace(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        match self.committed() {
            Some(committed) => Ok(Some(committed)),
            None => Ok(self.get(COMMITTED).await?.flatten()),
        }
    }

    /// Completes as soon as the entries are written. The steps that need durable entries wait for
    /// that themselves (see the documentation of the crate).
    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = RaftLogEntry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<RaftLogEntry> = entries.into_iter().collect();
        match self.append_entries(entries).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let failure = storage_error(ErrorSubject::Logs, ErrorVerb::Write, &error);
                callback.log_io_completed(Err(std::io::Error::other(error)));
                Err(failure)
            }
        }
    }

    /// Refuses to remove a committed entry, which stops the node: `append_check` lets no request
    /// come to this, except one that overtakes a commit of this node's own.
    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        if self
            .committed()
            .is_some_and(|committed| committed.index >= log_id.index)
        {
            let what = format!("{log_id} is committed and was to be removed");
            return Err(StorageIOError::write_logs(AnyError::error(what)).into());
        }
        self.truncate_from(log_id.index)
            .await
            .map_err(|error| StorageIOError::write_logs(error).into())
    }

    /// Writes the purge unsynced: in the write-ahead log it follows the effects of the entries that
    /// it removes, so it is never durable without them. A purge that is held back is repeated: by
    /// `OpenraftStateMachine` after an installation, otherwise with the next purge.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        if self.0.purges_held.load(Ordering::SeqCst) {
            return Ok(());
        }
        let failed =
            |error: StoreError| storage_error(ErrorSubject::Log(log_id), ErrorVerb::Delete, &error);
        let digest = self.digest(log_id).await.map_err(failed)?;
        let purged = ChainEnd { log_id, digest };
        let mut batch = WriteBatch::new();
        batch.put(Cf::Meta, PURGED, codec::encode(&purged));
        let end = log_id.index.saturating_add(1);
        batch.delete_range(Cf::Log, KeyRange::between(key(0), key(end)));
        self.write(batch, Durability::Unsynced)
            .await
            .map_err(failed)?;
        self.recent().purge(purged);
        Ok(())
    }
}
