//! Answers the requests of other nodes. Every request is checked before openraft sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use lamplighter_system::error_chain;
use openraft::Snapshot;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::blocking_io::BlockingIo;
use crate::codec::{self, CodecError};
use crate::config::ConsensusConfig;
use crate::early_entries::keep_acknowledged;
use crate::error::ServeError;
use crate::log::LogStore;
use crate::message::{
    AppendAnswer, AppendRequest, AppendResponse, ControlRequest, ControlResponse, decode_append,
};
use crate::snapshot::message::{SnapshotRequest, SnapshotResponse};
use crate::snapshot::{ReceiveError, ReceivedSnapshot, SnapshotReceiver, TransferStep};
use crate::snapshot_source::SnapshotSource;
use crate::state_machine::StateMachine;
use crate::transport::{FRAME_BYTES_MAX, RaftLane};
use crate::type_config::{EntryPayload, Raft};
use crate::types::{MEMBERS_MAX, Marker, NodeId, SnapshotMeta, Vote};

/// The number of terms by which another node may be ahead. Elections raise the term one by one; a
/// node that claims more would use the numbers up.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

/// The serving side of one node.
pub(crate) struct PeerServer {
    raft: Raft,
    config: Arc<ConsensusConfig>,
    io: BlockingIo,
    log: LogStore,
    machine: Arc<dyn StateMachine>,
    receiver: Arc<Mutex<SnapshotReceiver>>,
    source: SnapshotSource,
    /// The highest commit index that a leader announced.
    announced_commit: AtomicU64,
    /// A snapshot is being installed: the entries after it have to wait.
    installing: AtomicBool,
}

fn invalid<T>(from: NodeId, reason: impl Into<String>) -> Result<T, ServeError> {
    Err(ServeError::Invalid {
        from,
        reason: reason.into(),
    })
}

fn malformed(from: NodeId) -> impl FnOnce(CodecError) -> ServeError {
    move |error| ServeError::Invalid {
        from,
        reason: error.to_string(),
    }
}

impl PeerServer {
    pub(crate) fn new(
        log: LogStore,
        receiver: SnapshotReceiver,
        source: SnapshotSource,
    ) -> Arc<Self> {
        Arc::new(Self {
            raft: source.raft.clone(),
            config: source.config.clone(),
            io: BlockingIo::new(&source.config),
            log,
            machine: source.machine.clone(),
            receiver: Arc::new(Mutex::new(receiver)),
            source,
            announced_commit: AtomicU64::new(0),
            installing: AtomicBool::new(false),
        })
    }

    /// Answers a request of a node whose identity is proven.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        from: NodeId,
        lane: RaftLane,
        request: Bytes,
    ) -> Result<Bytes, ServeError> {
        if request.len() > FRAME_BYTES_MAX {
            return invalid(from, format!("{} bytes", request.len()));
        }
        match lane {
            RaftLane::Control => self.serve_control(from, request).await,
            RaftLane::Append => self.serve_append(from, request).await,
            RaftLane::Snapshot => self.serve_snapshot(from, request).await,
        }
    }

    async fn serve_control(&self, from: NodeId, request: Bytes) -> Result<Bytes, ServeError> {
        let response = match codec::decode("request", &request).map_err(malformed(from))? {
            ControlRequest::Vote { request, .. } => {
                self.check_vote(from, &request.vote, false)?;
                self.check_followed(from)?;
                let response = self.raft.vote(request).await;
                let response = response.map_err(|_| ServeError::Stopped)?;
                ControlResponse::Vote {
                    response,
                    signature: None,
                }
            }
            ControlRequest::ReadIndex => ControlResponse::ReadIndex(read_index(&self.raft).await),
            ControlRequest::Heartbeat {
                vote,
                prev_log_id,
                leader_commit,
                proof: _,
            } => {
                let entries = Vec::new();
                let request = AppendRequest {
                    vote,
                    prev_log_id,
                    leader_commit,
                    entries,
                };
                let response = self.append(from, request).await?;
                ControlResponse::Heartbeat(AppendAnswer::Response {
                    response,
                    signature: None,
                })
            }
            ControlRequest::Ping => ControlResponse::Pong,
        };
        Ok(codec::encode(&response).into())
    }

    /// Checks that the vote is the sender's own, of a believable term.
    fn check_vote(&self, from: NodeId, vote: &Vote, committed: bool) -> Result<(), ServeError> {
        if vote.leader_id.node_id != from || vote.committed != committed {
            return invalid(from, format!("a vote that is not its own: {vote}"));
        }
        let term = self.raft.metrics().borrow().current_term;
        if vote.leader_id.term > term.saturating_add(TERMS_AHEAD_MAX) {
            return invalid(from, format!("a term far ahead: {vote}"));
        }
        Ok(())
    }

    async fn serve_append(&self, from: NodeId, request: Bytes) -> Result<Bytes, ServeError> {
        let request = decode_append(request).map_err(malformed(from))?.request;
        check_entries(from, &request)?;
        let response = self.append(from, request).await?;
        let answer = AppendAnswer::Response {
            response,
            signature: None,
        };
        Ok(codec::encode(&answer).into())
    }

    async fn append(
        &self,
        from: NodeId,
        mut request: AppendRequest,
    ) -> Result<AppendResponse, ServeError> {
        self.check_vote(from, &request.vote, true)?;
        self.check_followed(from)?;
        let kept = keep_acknowledged(&*self.machine, from, &mut request)?;
        if !request.entries.is_empty() {
            // The entries after a snapshot must not be in the log before it is in the state.
            if self.installing.load(Ordering::SeqCst) {
                return Err(ServeError::Busy);
            }
            self.wait_for_backlog().await?;
        }
        let commit = request.leader_commit;
        let response = self.raft.append_entries(request).await;
        let response = response.map_err(|_| ServeError::Stopped)?;
        if let Some(commit) = commit {
            self.announced_commit
                .fetch_max(commit.index, Ordering::Relaxed);
        }
        // An acknowledgement says that the entries are durable, those before them included.
        let durable = self.log.all_durable().await;
        durable.map_err(|error| ServeError::Failed(error.to_string()))?;
        match kept {
            Some(last) if response.is_success() => Ok(AppendResponse::PartialSuccess(Some(last))),
            _ => Ok(response),
        }
    }

    fn check_followed(&self, from: NodeId) -> Result<(), ServeError> {
        if self.machine.may_follow(from) {
            return Ok(());
        }
        Err(ServeError::NotFollowed { from })
    }

    /// Waits until this node has applied enough. A node that applies more slowly than the others
    /// commit must not collect the difference in memory: it delays its answer instead. Only what is
    /// in its log counts, as it can't apply what it has not received.
    async fn wait_for_backlog(&self) -> Result<(), ServeError> {
        let limit = self.config.limits.backlog_entries_max;
        let commit = self.announced_commit.load(Ordering::Relaxed);
        let mut metrics = self.raft.metrics();
        let caught_up = metrics.wait_for(|metrics| {
            let applied = metrics.last_applied.map_or(0, |log_id| log_id.index);
            let target = commit.min(metrics.last_log_index.unwrap_or(0));
            metrics.running_state.is_err() || applied.saturating_add(limit) >= target
        });
        match timeout(self.config.timers.append, caught_up).await {
            Ok(Ok(metrics)) if metrics.running_state.is_ok() => Ok(()),
            Ok(_) => Err(ServeError::Stopped),
            Err(_) => Err(ServeError::Busy),
        }
    }

    async fn serve_snapshot(
        self: &Arc<Self>,
        from: NodeId,
        request: Bytes,
    ) -> Result<Bytes, ServeError> {
        let (request, bytes) = codec::unframe("request", request).map_err(malformed(from))?;
        let vote = match &request {
            SnapshotRequest::Offer { vote, .. }
            | SnapshotRequest::Chunk { vote, .. }
            | SnapshotRequest::Install { vote, .. } => *vote,
            SnapshotRequest::Describe { .. } | SnapshotRequest::Read { .. } => {
                return self.serve_source(from, request).await;
            }
        };
        self.check_vote(from, &vote, true)?;
        let local_vote = self.raft.metrics().borrow().vote;
        let response = if vote < local_vote {
            SnapshotResponse::Done { vote: local_vote }
        } else {
            self.receive_snapshot(from, request, bytes).await?
        };
        Ok(codec::encode(&response).into())
    }

    /// Reads from this node's snapshot; nothing in it depends on the leader.
    async fn serve_source(
        &self,
        from: NodeId,
        request: SnapshotRequest,
    ) -> Result<Bytes, ServeError> {
        let response = match request {
            SnapshotRequest::Describe { at_least } => self.source.describe(at_least).await,
            SnapshotRequest::Read {
                manifest,
                file,
                offset,
            } => self.source.read(manifest, file, offset).await,
            _ => return invalid(from, "a request of a leader"),
        };
        let response = response.map_err(|error| ServeError::Failed(error.to_string()))?;
        Ok(codec::encode(&response).into())
    }

    async fn receive_snapshot(
        self: &Arc<Self>,
        from: NodeId,
        request: SnapshotRequest,
        bytes: Bytes,
    ) -> Result<SnapshotResponse, ServeError> {
        let mut receiver = self.receiver.clone().lock_owned().await;
        let step = match request {
            SnapshotRequest::Offer { vote, manifest, .. } => {
                // It may be installed already, after the leader stopped waiting for the answer.
                let applied = self.raft.metrics().borrow().last_applied;
                if manifest.meta.last_log_id <= applied {
                    return Ok(SnapshotResponse::Done { vote });
                }
                let offered = move || receiver.offer(manifest);
                self.io.run(offered).await
            }
            SnapshotRequest::Chunk {
                manifest,
                file,
                offset,
                ..
            } => {
                let chunk = move || receiver.chunk(manifest, file, offset, bytes);
                self.io.run(chunk).await
            }
            SnapshotRequest::Install { vote, manifest } => {
                let server = self.clone();
                // A task of its own, which does not end when the requesting node disconnects;
                // nothing else begins before it ends.
                let install = tokio::spawn(async move {
                    let received = receiver.complete(manifest).map_err(refused(from))?;
                    let answer = server.install(from, vote, received).await;
                    drop(receiver);
                    answer
                });
                return install.await.map_err(|_| ServeError::Stopped)?;
            }
            SnapshotRequest::Describe { .. } | SnapshotRequest::Read { .. } => {
                return invalid(from, "a request without a vote");
            }
        };
        match step.map_err(refused(from))? {
            TransferStep::Next { file, offset } => Ok(SnapshotResponse::Next { file, offset }),
            TransferStep::Complete => Ok(SnapshotResponse::Complete),
        }
    }

    /// Installs a received snapshot if its contents are what the leader announced.
    async fn install(
        &self,
        from: NodeId,
        vote: Vote,
        received: ReceivedSnapshot,
    ) -> Result<SnapshotResponse, ServeError> {
        let ReceivedSnapshot { manifest, snapshot } = received;
        let (machine, data) = (self.machine.clone(), snapshot.data());
        let checked = self.io.run(move || machine.check_snapshot(&data)).await;
        let marker = checked.or_else(|error| {
            let reason = error_chain(&error);
            tracing::error!(from, error = reason, "an image is not accepted");
            invalid(from, reason)
        })?;
        check_marker(from, marker, &manifest.meta)?;
        self.installing.store(true, Ordering::SeqCst);
        self.log.hold_purges();
        let snapshot = Snapshot {
            meta: manifest.meta,
            snapshot: Box::new(snapshot),
        };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        self.log.release_purges();
        self.installing.store(false, Ordering::SeqCst);
        let vote = installed.map_err(|_| ServeError::Stopped)?.vote;
        Ok(SnapshotResponse::Done { vote })
    }
}

/// The read index, if this node leads and a majority confirms it.
pub(crate) async fn read_index(raft: &Raft) -> Option<u64> {
    let (read, _) = raft.get_read_log_id().await.ok()?;
    Some(read.map_or(0, |log_id| log_id.index))
}

/// Compares the position in a snapshot with the one that the leader announced.
fn check_marker(
    from: NodeId,
    marker: Option<Vec<u8>>,
    meta: &SnapshotMeta,
) -> Result<(), ServeError> {
    let marker: Option<Marker> = marker
        .map(|bytes| codec::decode("marker", &bytes))
        .transpose()
        .map_err(malformed(from))?;
    let (log_id, membership) = match marker {
        Some(Marker { log_id, membership }) => (Some(log_id), membership),
        None => (None, Default::default()),
    };
    if log_id == meta.last_log_id && membership == meta.last_membership {
        return Ok(());
    }
    invalid(
        from,
        format!("an image of {log_id:?} that is said to be of {meta}"),
    )
}

fn refused(from: NodeId) -> impl FnOnce(ReceiveError) -> ServeError {
    move |error| match error {
        ReceiveError::Invalid(reason) => ServeError::Invalid { from, reason },
        ReceiveError::Failed(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "receive a snapshot"
            );
            ServeError::Failed(error.to_string())
        }
    }
}

/// Checks that entries follow the previous one without a gap, that none is newer than its leader,
/// and that a membership has members.
fn check_entries(from: NodeId, request: &AppendRequest) -> Result<(), ServeError> {
    let mut last = request.prev_log_id;
    for entry in &request.entries {
        let log_id = entry.log_id;
        let index = last.map_or(Some(0), |last| last.index.checked_add(1));
        let ordered = last.is_none_or(|last| last.leader_id <= log_id.leader_id)
            && log_id.leader_id <= request.vote.leader_id;
        if Some(log_id.index) != index || !ordered {
            return invalid(from, format!("entry {log_id} out of order"));
        }
        if let EntryPayload::Membership(membership) = &entry.payload {
            let voters = membership.voter_ids().count();
            if voters == 0 || membership.nodes().count() > MEMBERS_MAX {
                return invalid(from, "an impossible membership");
            }
        }
        last = Some(log_id);
    }
    Ok(())
}
