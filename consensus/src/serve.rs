//! Answers to the other nodes' requests. What comes in is checked before openraft sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use openraft::Snapshot;
use tokio::time::timeout;

use crate::codec::{
    self, AppendRequest, AppendResponse, CodecError, ControlRequest, ControlResponse, Marker,
    SnapshotRequest, SnapshotResponse,
};
use crate::error::ServeError;
use crate::node::Inner;
use crate::raft::{NodeId, Payload, SnapshotMeta, Vote};
use crate::snapshot::{Complete, ReceiveError, Step};
use crate::transport::{FRAME_BYTES_MAX, Lane};

/// Members of a cluster, learners included.
pub(crate) const MEMBERS_MAX: usize = 64;
/// How far ahead of this node another one's term may be. Elections raise it one by one; a node that
/// claims more would use the numbers up.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

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

impl Inner {
    pub(crate) async fn serve(
        self: &Arc<Self>,
        from: NodeId,
        lane: Lane,
        request: Bytes,
    ) -> Result<Bytes, ServeError> {
        if request.len() > FRAME_BYTES_MAX {
            return invalid(from, format!("{} bytes", request.len()));
        }
        match lane {
            Lane::Control => self.serve_control(from, request).await,
            Lane::Append => self.serve_append(from, request).await,
            Lane::Snapshot => self.serve_snapshot(from, request).await,
        }
    }

    async fn serve_control(&self, from: NodeId, request: Bytes) -> Result<Bytes, ServeError> {
        let response = match codec::decode("request", &request).map_err(malformed(from))? {
            ControlRequest::Vote(request) => {
                self.check_vote(from, &request.vote, false)?;
                let response = self
                    .raft
                    .vote(request)
                    .await
                    .map_err(|_| ServeError::Stopped)?;
                ControlResponse::Vote(response)
            }
            ControlRequest::ReadIndex => ControlResponse::ReadIndex(self.leader_read_index().await),
            ControlRequest::Heartbeat {
                vote,
                prev_log_id,
                leader_commit,
            } => {
                let entries = Vec::new();
                let request = AppendRequest {
                    vote,
                    prev_log_id,
                    leader_commit,
                    entries,
                };
                ControlResponse::Heartbeat(self.append(from, request).await?)
            }
            ControlRequest::Ping => ControlResponse::Pong,
        };
        Ok(codec::encode(&response).into())
    }

    /// A vote that the sender may speak for: its own.
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
        let request = codec::decode_append(request).map_err(malformed(from))?;
        check_entries(from, &request)?;
        let response = self.append(from, request).await?;
        Ok(codec::encode(&response).into())
    }

    async fn append(
        &self,
        from: NodeId,
        request: AppendRequest,
    ) -> Result<AppendResponse, ServeError> {
        self.check_vote(from, &request.vote, true)?;
        if !request.entries.is_empty() {
            // What follows an image must not be in the log before the image is in the state.
            if self.installing.load(Ordering::SeqCst) {
                return Err(ServeError::Busy);
            }
            self.wait_for_backlog().await?;
        }
        let commit = request.leader_commit;
        let response = self.raft.append_entries(request).await;
        let response = response.map_err(|_| ServeError::Stopped)?;
        if let Some(commit) = commit {
            self.raise_commit(commit.index);
        }
        // An acknowledgement says that the entries are durable, those before them included.
        let durable = self.log.all_durable().await;
        durable.map_err(|error| ServeError::Failed(error.to_string()))?;
        Ok(response)
    }

    /// A node that applies more slowly than the others commit must not collect the difference in
    /// memory: it takes its time to answer instead. What it has not received yet it can't apply:
    /// only what is in its log counts.
    async fn wait_for_backlog(&self) -> Result<(), ServeError> {
        let limit = self.config.limits.backlog_entries_max;
        let commit = self.commit();
        let mut metrics = self.raft.metrics();
        let caught_up = metrics.wait_for(|metrics| {
            let applied = metrics.last_applied.map_or(0, |log_id| log_id.index);
            let due = commit.min(metrics.last_log_index.unwrap_or(0));
            metrics.running_state.is_err() || applied.saturating_add(limit) >= due
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
                return self.lend(from, request).await;
            }
        };
        self.check_vote(from, &vote, true)?;
        let mine = self.raft.metrics().borrow().vote;
        let response = if vote < mine {
            SnapshotResponse::Done { vote: mine }
        } else {
            self.snapshot_step(from, request, bytes).await?
        };
        Ok(codec::encode(&response).into())
    }

    /// Only reads: nothing of it depends on who leads.
    async fn lend(&self, from: NodeId, request: SnapshotRequest) -> Result<Bytes, ServeError> {
        let response = match request {
            SnapshotRequest::Describe { at_least } => self.describe_image(at_least).await,
            SnapshotRequest::Read {
                manifest,
                file,
                offset,
            } => self.read_image(manifest, file, offset).await,
            _ => return invalid(from, "a request of a leader"),
        };
        let response = response.map_err(|error| ServeError::Failed(error.to_string()))?;
        Ok(codec::encode(&response).into())
    }

    async fn snapshot_step(
        self: &Arc<Self>,
        from: NodeId,
        request: SnapshotRequest,
        bytes: Bytes,
    ) -> Result<SnapshotResponse, ServeError> {
        let mut receiver = self.receiver.clone().lock_owned().await;
        let step = match request {
            SnapshotRequest::Offer { vote, manifest } => {
                // A snapshot that was installed while the leader gave up waiting for the answer.
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
                let node = self.clone();
                // Not ended when the asking node hangs up; nothing else begins before it is done.
                let install = tokio::spawn(async move {
                    let complete = receiver.complete(manifest).map_err(refused(from))?;
                    let answer = node.install(from, vote, complete).await;
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
            Step::Next { file, offset } => Ok(SnapshotResponse::Next { file, offset }),
            Step::Complete => Ok(SnapshotResponse::Complete),
        }
    }
}

impl Inner {
    /// Installs an image that has arrived, if it is what it says it is.
    async fn install(
        &self,
        from: NodeId,
        vote: Vote,
        complete: Complete,
    ) -> Result<SnapshotResponse, ServeError> {
        let Complete { manifest, snapshot } = complete;
        let (machine, data) = (self.machine.clone(), snapshot.data());
        let checked = self.io.run(move || machine.check_snapshot(&data)).await;
        let marker = checked.or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(from, error, "an image is not accepted");
            invalid(
                from,
                format!(
                    "{error}: {}",
                    error.source().map_or(String::new(), |e| e.to_string())
                ),
            )
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

/// What the leader says of an image, and what is in it.
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

/// Entries follow the previous one without a gap, none is newer than its leader, and a membership
/// has members.
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
        if let Payload::Membership(membership) = &entry.payload {
            let voters = membership.voter_ids().count();
            if voters == 0 || membership.nodes().count() > MEMBERS_MAX {
                return invalid(from, "an impossible membership");
            }
        }
        last = Some(log_id);
    }
    Ok(())
}
