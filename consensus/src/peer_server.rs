//! Answers the requests of other nodes. Every request is checked before openraft sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use lamplighter_system::error_chain;
use openraft::Snapshot;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::append_check::{AppendCheck, AppendError, CheckedAppend};
use crate::binding;
use crate::blocking_io::BlockingIo;
use crate::codec::{self, CodecError};
use crate::comparison::LogComparison;
use crate::config::ConsensusConfig;
use crate::election::{ElectionProof, Elections};
use crate::error::ServeError;
use crate::leader_check::{LeaderCheck, LeaderStanding, check_manifest};
use crate::log::LogStore;
use crate::message::{
    AppendAnswer, AppendBinding, AppendMessage, AppendRequest, AppendResponse, ControlRequest,
    ControlResponse, decode_append,
};
use crate::snapshot::message::{SnapshotRequest, SnapshotResponse};
use crate::snapshot::{ReceiveError, ReceivedSnapshot, SnapshotReceiver, TransferStep};
use crate::snapshot_source::SnapshotSource;
use crate::state_machine::StateMachine;
use crate::transport::{FRAME_BYTES_MAX, RaftLane};
use crate::type_config::Raft;
use crate::types::{Marker, NodeId, SnapshotMeta, Vote};

/// The serving side of one node.
pub(crate) struct PeerServer {
    pub raft: Raft,
    pub config: Arc<ConsensusConfig>,
    io: BlockingIo,
    pub log: LogStore,
    machine: Arc<dyn StateMachine>,
    receiver: Arc<Mutex<SnapshotReceiver>>,
    source: SnapshotSource,
    leaders: LeaderCheck,
    checks: AppendCheck,
    /// The leader, as term and node, that may continue the transfer of an image.
    image_leader: Mutex<Option<(u64, NodeId)>>,
    /// The highest commit index that a leader announced.
    announced_commit: AtomicU64,
    /// A snapshot is being installed: the entries after it have to wait.
    installing: AtomicBool,
    pub comparison: Arc<LogComparison>,
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
        elections: Arc<Elections>,
        checks: AppendCheck,
        receiver: SnapshotReceiver,
        source: SnapshotSource,
        comparison: Arc<LogComparison>,
    ) -> Arc<Self> {
        let log = checks.log.clone();
        Arc::new(Self {
            leaders: LeaderCheck {
                elections,
                raft: source.raft.clone(),
                log: log.clone(),
            },
            checks,
            image_leader: Mutex::default(),
            raft: source.raft.clone(),
            config: source.config.clone(),
            io: BlockingIo::new(&source.config),
            log,
            machine: source.machine.clone(),
            receiver: Arc::new(Mutex::new(receiver)),
            source,
            announced_commit: AtomicU64::new(0),
            installing: AtomicBool::new(false),
            comparison,
        })
    }

    /// The read index, if this node leads and a quorum confirms it.
    pub(crate) async fn read_index(&self) -> Option<u64> {
        let asked = Instant::now();
        let leader = self.leaders.elections.voters.local_vote().leader_id;
        let (read, _) = self.raft.get_read_log_id().await.ok()?;
        let gate = &self.leaders.elections.gate;
        if !gate.is_majority_enough() {
            // openraft stops listening once a majority has answered: another round is asked for.
            self.raft.trigger().heartbeat().await.ok()?;
            let within = self.config.timers.heartbeat * 2;
            if !gate.confirmed_since(leader, asked, within).await {
                return None;
            }
        }
        Some(read.map_or(0, |log_id| log_id.index))
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
            ControlRequest::Vote { request, log_proof } => {
                self.check_followed(from)?;
                if request.last_log_id < self.comparison.recovery.floor() {
                    return invalid(from, "a candidate behind what this node acknowledged");
                }
                self.leaders.vote(from, request, log_proof).await?
            }
            ControlRequest::ReadIndex => ControlResponse::ReadIndex(self.read_index().await),
            ControlRequest::Heartbeat {
                vote,
                prev_log_id,
                leader_commit,
                proof,
            } => {
                let entries = Vec::new();
                let request = AppendRequest {
                    vote,
                    prev_log_id,
                    leader_commit,
                    entries,
                };
                ControlResponse::Heartbeat(self.append(from, request, proof, None).await?)
            }
            ControlRequest::Ping => ControlResponse::Pong,
            ControlRequest::Compare(request) => {
                let answer = self.comparison.answer(request).await;
                let answer = answer.map_err(|error| ServeError::Failed(error.to_string()))?;
                ControlResponse::Compared(Box::new(answer))
            }
        };
        Ok(codec::encode(&response).into())
    }

    async fn serve_append(&self, from: NodeId, request: Bytes) -> Result<Bytes, ServeError> {
        let AppendMessage {
            request,
            proof,
            binding,
        } = decode_append(request).map_err(malformed(from))?;
        let answer = self.append(from, request, proof, binding).await?;
        Ok(codec::encode(&answer).into())
    }

    async fn append(
        &self,
        from: NodeId,
        request: AppendRequest,
        proof: Option<ElectionProof>,
        binding: Option<AppendBinding>,
    ) -> Result<AppendAnswer, ServeError> {
        let proof = match self.leaders.leader(from, &request.vote, proof).await? {
            LeaderStanding::Proven(proof) => proof,
            LeaderStanding::Stale(vote) => {
                return Ok(AppendAnswer::Response {
                    response: AppendResponse::HigherVote(vote),
                    signature: None,
                });
            }
            LeaderStanding::Unproven => return Ok(AppendAnswer::Unproven),
        };
        self.check_followed(from)?;
        self.remove_foreign_image(&proof).await?;
        let is_heartbeat = request.entries.is_empty();
        if !is_heartbeat {
            // The entries after a snapshot must not be in the log before it is in the state.
            if self.installing.load(Ordering::SeqCst) {
                return Err(ServeError::Busy);
            }
            self.wait_for_backlog().await?;
        }
        let response = self.append_checked(from, request, &proof, binding).await?;
        // An acknowledgement says that the entries are durable, those before them included.
        let durable = self.log.all_durable().await;
        durable.map_err(|error| ServeError::Failed(error.to_string()))?;
        let follows = is_heartbeat && !matches!(response, AppendResponse::HigherVote(_));
        Ok(AppendAnswer::Response {
            response,
            signature: follows.then(|| self.leaders.sign(&proof)).flatten(),
        })
    }

    /// Checks that the state machine lets this node follow that one, or vote for it.
    fn check_followed(&self, from: NodeId) -> Result<(), ServeError> {
        if self.machine.may_follow(from) {
            return Ok(());
        }
        Err(ServeError::NotFollowed { from })
    }

    /// Lets openraft have a request after it was checked against the log, which nothing else
    /// changes meanwhile.
    async fn append_checked(
        &self,
        from: NodeId,
        request: AppendRequest,
        proof: &ElectionProof,
        binding: Option<AppendBinding>,
    ) -> Result<AppendResponse, ServeError> {
        let _turn = self.comparison.turn.lock().await;
        let electorate = &*self.comparison.electorate;
        let nodes = (from, self.config.node_id);
        binding::check(&self.log, electorate, nodes, &request, binding).await?;
        let sent: Vec<_> = request.entries.iter().map(|entry| entry.log_id).collect();
        let applied = self.raft.metrics().borrow().last_applied;
        let checked = self.checks.check(request, proof, applied).await;
        let CheckedAppend {
            mut request,
            cut_after,
        } = checked.map_err(|error| match error {
            AppendError::Invalid(reason) => {
                tracing::error!(from, reason, "a leader sends what no correct one does");
                ServeError::Invalid { from, reason }
            }
            AppendError::Failed(reason) => ServeError::Failed(reason),
        })?;
        if self.installing.load(Ordering::SeqCst) {
            request.leader_commit = None;
        }
        let commit = request.leader_commit;
        let response = self.raft.append_entries(request).await;
        let response = response.map_err(|_| ServeError::Stopped)?;
        if let Some(commit) = commit {
            self.announced_commit
                .fetch_max(commit.index, Ordering::Relaxed);
        }
        match (response, cut_after) {
            (AppendResponse::Success, Some(last)) => match last {
                Some(last) if sent.contains(&last) => {
                    Ok(AppendResponse::PartialSuccess(Some(last)))
                }
                // Not yet: the leader comes again after a pause.
                _ => Err(ServeError::Busy),
            },
            (response, _) => Ok(response),
        }
    }

    /// Removes what another leader began to send, once this one is proven.
    async fn remove_foreign_image(&self, proof: &ElectionProof) -> Result<(), ServeError> {
        let leader = (proof.term, proof.candidate);
        if *self.image_leader.lock().await == Some(leader) {
            return Ok(());
        }
        // An installation is the end of a transfer, and may take long.
        let Ok(mut receiver) = self.receiver.clone().try_lock_owned() else {
            return Ok(());
        };
        let removed = self.io.run(move || receiver.begin_leadership(leader)).await;
        removed.map_err(|error| ServeError::Failed(error.to_string()))?;
        *self.image_leader.lock().await = Some(leader);
        Ok(())
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
        let (mut request, bytes) = codec::unframe("request", request).map_err(malformed(from))?;
        let (vote, proof) = match &mut request {
            SnapshotRequest::Offer { vote, proof, .. } => (*vote, proof.take()),
            SnapshotRequest::Chunk { vote, .. } | SnapshotRequest::Install { vote, .. } => {
                (*vote, None)
            }
            SnapshotRequest::Describe { .. } | SnapshotRequest::Read { .. } => {
                return self.serve_source(from, request).await;
            }
        };
        let response = match self.leaders.leader(from, &vote, proof).await? {
            LeaderStanding::Unproven => SnapshotResponse::Unproven,
            LeaderStanding::Stale(vote) => SnapshotResponse::Done { vote },
            LeaderStanding::Proven(proof) => {
                self.remove_foreign_image(&proof).await?;
                if let SnapshotRequest::Offer { manifest, .. } = &request {
                    check_manifest(from, manifest, &proof)?;
                }
                self.receive_snapshot(from, request, bytes).await?
            }
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
                let committed = self.checks.committed(applied).map(|log_id| log_id.index);
                let last = manifest.meta.last_log_id.map(|log_id| log_id.index);
                if last <= committed {
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
        {
            // What is under way with the log ends first; what follows sees the installation.
            let _turn = self.comparison.turn.lock().await;
            self.installing.store(true, Ordering::SeqCst);
        }
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
        Some(Marker {
            log_id,
            membership,
            digest: _,
        }) => (Some(log_id), membership),
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
