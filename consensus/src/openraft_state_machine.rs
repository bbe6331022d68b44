//! The [`StateMachine`] trait as openraft's `RaftStateMachine`.

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use lamplighter_system::error_chain;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{AnyError, ErrorSubject, ErrorVerb, RaftSnapshotBuilder, Snapshot, StorageIOError};

use crate::blocking_io::BlockingIo;
use crate::codec;
use crate::compaction::Compaction;
use crate::election::AppliedVoters;
use crate::log::{ChainEnd, LogDigest, LogStore, storage_error};
use crate::snapshot::{SnapshotDir, SnapshotError, SnapshotStore};
use crate::state_machine::{Committed, StateMachine};
use crate::type_config::{BatchResponse, EntryPayload, ProposedBatch, RaftLogEntry, TypeConfig};
use crate::types::{LogId, Marker, SnapshotMeta, StorageError, StoredMembership};

/// Applies entries and makes snapshots for openraft.
#[derive(Clone)]
pub(crate) struct OpenraftStateMachine {
    machine: Arc<dyn StateMachine>,
    log: LogStore,
    snapshots: Arc<SnapshotStore>,
    io: BlockingIo,
    /// Set when the node has started; no other node can help to seal an image before that.
    compaction: Arc<OnceLock<Compaction>>,
    /// The membership after the last applied entry, which every marker repeats.
    membership: StoredMembership,
    /// Its voters, for elections.
    applied_voters: Arc<AppliedVoters>,
    /// The digest of the log up to the last applied entry.
    digest: LogDigest,
}

impl OpenraftStateMachine {
    pub(crate) fn new(
        machine: Arc<dyn StateMachine>,
        log: LogStore,
        snapshots: Arc<SnapshotStore>,
        io: BlockingIo,
    ) -> Self {
        Self {
            machine,
            log,
            snapshots,
            io,
            compaction: Arc::default(),
            membership: StoredMembership::default(),
            applied_voters: Arc::default(),
            digest: LogDigest::EMPTY,
        }
    }

    /// The voters after the last applied entry.
    pub(crate) fn applied_voters(&self) -> Arc<AppliedVoters> {
        self.applied_voters.clone()
    }

    fn set_membership(&mut self, membership: StoredMembership) {
        let voters = membership.membership().get_joint_config();
        self.applied_voters.set(voters.clone());
        self.membership = membership;
    }

    /// The cell to set when the node has started.
    pub(crate) fn compaction(&self) -> Arc<OnceLock<Compaction>> {
        self.compaction.clone()
    }

    async fn marker(&self) -> Result<Option<Marker>, StorageError> {
        let machine = self.machine.clone();
        let bytes = self
            .io
            .run(move || machine.applied())
            .await
            .map_err(|error| read(&error))?;
        let decode = |bytes: Vec<u8>| codec::decode("marker", &bytes);
        bytes.map(decode).transpose().map_err(|error| read(&error))
    }

    /// Continues from the marker of the state.
    fn adopt(&mut self, marker: Option<&Marker>) {
        self.set_membership(marker.map_or_else(Default::default, |m| m.membership.clone()));
        self.digest = marker.map_or(LogDigest::EMPTY, |marker| marker.digest);
        if let Some(marker) = marker {
            self.log.set_applied(ChainEnd {
                log_id: marker.log_id,
                digest: Some(marker.digest),
            });
        }
    }

    /// Converts an entry for the state machine.
    fn commit(&mut self, entry: RaftLogEntry) -> Committed {
        let log_id = entry.log_id;
        // The log has hashed the entry already, in nearly all cases.
        let digest = self.log.cached_digest(log_id);
        self.digest = digest.unwrap_or_else(|| self.digest.after(&entry));
        let batch = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(ProposedBatch(batch)) => Some(batch),
            EntryPayload::Membership(membership) => {
                self.set_membership(StoredMembership::new(Some(log_id), membership));
                None
            }
        };
        let marker = codec::encode(&Marker {
            log_id,
            membership: self.membership.clone(),
            digest: self.digest,
        });
        Committed {
            log_index: log_id.index,
            term: log_id.leader_id.term,
            marker,
            batch,
        }
    }

    /// Waits until the entries up to this one are on this disk; only then are they applied.
    async fn wait_durable(&self, last: LogId) -> Result<(), StorageError> {
        self.log
            .durable(last.index)
            .await
            .map_err(|error| storage_error(ErrorSubject::Log(last), ErrorVerb::Write, &*error))
    }
}

fn read<E: std::error::Error + 'static>(error: &E) -> StorageError {
    storage_error(ErrorSubject::StateMachine, ErrorVerb::Read, error)
}

fn snapshot_failed(error: &SnapshotError) -> StorageError {
    storage_error(ErrorSubject::Snapshot(None), ErrorVerb::Write, error)
}

fn snapshot((meta, dir): (SnapshotMeta, Arc<SnapshotDir>)) -> Snapshot<TypeConfig> {
    Snapshot {
        meta,
        snapshot: Box::new(dir),
    }
}

impl RaftSnapshotBuilder<TypeConfig> for OpenraftStateMachine {
    /// openraft calls this in a task of its own and purges the log when it returns, so the time it
    /// takes delays only the purge.
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let compaction = self.compaction.get().cloned();
        if let Some(compaction) = &compaction {
            let unneeded = compaction.wait_unneeded().await;
            unneeded.map_err(|error| snapshot_failed(&SnapshotError::from(error)))?;
        }
        self.log.start_image();
        let (machine, snapshots) = (self.machine.clone(), self.snapshots.clone());
        let built = self.io.run(move || snapshots.build(&*machine)).await;
        let built = built.map_err(|error| snapshot_failed(&error))?;
        if let Some(compaction) = &compaction {
            let data = built.data();
            let sealed = compaction.unless_stopped(self.machine.seal_snapshot(&data));
            let sealed = sealed.await.map_err(SnapshotError::from);
            sealed.map_err(|error| snapshot_failed(&error))?;
        }
        let snapshots = self.snapshots.clone();
        let finished = self.io.run(move || snapshots.finish(built)).await;
        finished
            .map(snapshot)
            .map_err(|error| snapshot_failed(&error))
    }
}

impl RaftStateMachine<TypeConfig> for OpenraftStateMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let marker = self.marker().await?;
        self.adopt(marker.as_ref());
        Ok((marker.map(|marker| marker.log_id), self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<BatchResponse>, StorageError>
    where
        I: IntoIterator<Item = RaftLogEntry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<RaftLogEntry> = entries.into_iter().collect();
        let Some(last) = entries.last().map(|entry| entry.log_id) else {
            return Ok(Vec::new());
        };
        self.wait_durable(last).await?;
        let committed: Vec<Committed> = entries
            .into_iter()
            .map(|entry| self.commit(entry))
            .collect();
        let count = committed.len();
        let machine = self.machine.clone();
        let applied = self.io.run(move || machine.apply(committed)).await;
        let responses = applied.map_err(|error| {
            let cause = error_chain(&error);
            tracing::error!(cause, "an entry can't be applied: this node stops");
            storage_error(ErrorSubject::Apply(last), ErrorVerb::Write, &error)
        })?;
        if responses.len() != count {
            let what = format!("{} responses to {count} entries", responses.len());
            return Err(StorageIOError::apply(last, AnyError::error(what)).into());
        }
        Ok(responses.into_iter().map(BatchResponse).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    /// An empty directory. Snapshots arrive by the snapshot lane instead (see `peer_server`).
    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Arc<SnapshotDir>>, StorageError> {
        let blank = self.snapshots.blank();
        blank.map(Box::new).map_err(|error| snapshot_failed(&error))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Arc<SnapshotDir>>,
    ) -> Result<(), StorageError> {
        let (machine, snapshots) = (self.machine.clone(), self.snapshots.clone());
        let adopted = meta.clone();
        let install = move || -> Result<(), SnapshotError> {
            snapshot.keep();
            machine.install_snapshot(&snapshot.data())?;
            snapshots.adopt(adopted, &snapshot).map(|_| ())
        };
        self.io
            .run(install)
            .await
            .map_err(|error| snapshot_failed(&error))?;
        let marker = self.marker().await?;
        if marker.as_ref().map(|marker| marker.log_id) != meta.last_log_id {
            let what = format!("the installed state is at {marker:?}, not at {meta}");
            return Err(StorageIOError::write_snapshot(None, AnyError::error(what)).into());
        }
        self.adopt(marker.as_ref());
        self.log.release_purges();
        if let Some(last) = meta.last_log_id {
            RaftLogStorage::purge(&mut self.log, last).await?;
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        // A snapshot that ends before the log begins remains from an installation that was
        // interrupted and continued. It leads no node to the log; openraft makes a new one.
        let purged = self.log.purged();
        let current = self.snapshots.current();
        let reaching = current.filter(|(meta, _)| meta.last_log_id >= purged);
        Ok(reaching.map(snapshot))
    }
}
