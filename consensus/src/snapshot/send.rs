use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::message::{Manifest, SnapshotRequest, SnapshotResponse};
use super::{SnapshotDir, SnapshotError, SnapshotThrottle};
use crate::blocking_io::BlockingIo;
use crate::codec;
use crate::election::ElectionProof;
use crate::error::TransportError;
use crate::transport::{RaftLane, Transport};
use crate::types::{SnapshotMeta, Vote};
use crate::{ConsensusConfig, NodeId};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Local(#[from] SnapshotError),
    #[error(transparent)]
    Machine(#[from] crate::Fatal),
    #[error("node {0} answers what it should not")]
    Answer(NodeId),
}

/// Sends a snapshot to one node.
pub(crate) struct SnapshotSender<'a> {
    pub transport: &'a dyn Transport,
    pub to: NodeId,
    pub config: &'a ConsensusConfig,
    pub throttle: &'a SnapshotThrottle,
    /// The proof of this node's leadership.
    pub proof: Option<ElectionProof>,
}

impl SnapshotSender<'_> {
    /// Sends a snapshot and has it installed; returns the vote of the other node. After an
    /// interruption nothing is sent twice: the other node names the bytes that it wants next. Each
    /// of its answers calls `on_progress`.
    pub(crate) async fn send(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: Arc<SnapshotDir>,
        on_progress: impl Fn(),
    ) -> Result<Vote, SendError> {
        let (io, dir) = (BlockingIo::new(self.config), snapshot.clone());
        let manifest = io.run(move || dir.manifest(&meta)).await?;
        let mut steps = self.steps_max(&manifest);
        let hash = manifest.hash();
        let offer = SnapshotRequest::Offer {
            vote,
            manifest: Manifest::clone(&manifest),
            proof: self.proof.clone(),
        };
        let mut answer = self.call(&offer, &[]).await?;
        loop {
            on_progress();
            steps = steps.checked_sub(1).ok_or(SendError::Answer(self.to))?;
            answer = match answer {
                SnapshotResponse::Next { file, offset } => {
                    let bytes = self.piece(&manifest, &snapshot, file, offset).await?;
                    let request = SnapshotRequest::Chunk {
                        vote,
                        manifest: hash,
                        file,
                        offset,
                    };
                    self.call(&request, &bytes).await?
                }
                SnapshotResponse::Complete => {
                    let request = SnapshotRequest::Install {
                        vote,
                        manifest: hash,
                    };
                    self.call(&request, &[]).await?
                }
                SnapshotResponse::Done { vote } => return Ok(vote),
                // It has lost the proof, and begins where it stopped.
                SnapshotResponse::Unproven => self.call(&offer, &[]).await?,
                SnapshotResponse::Image { .. }
                | SnapshotResponse::NoImage
                | SnapshotResponse::Piece { .. } => return Err(SendError::Answer(self.to)),
            };
        }
    }

    fn piece_bytes(&self) -> usize {
        let most = self.config.limits.snapshot_chunk_bytes;
        self.throttle.piece_bytes(most)
    }

    /// Answers after which the other node is taken to make no progress.
    fn steps_max(&self, manifest: &Manifest) -> u64 {
        let pieces = |bytes: u64| bytes.div_ceil(self.piece_bytes() as u64);
        let all: u64 = manifest.files.iter().map(|file| pieces(file.bytes)).sum();
        2 * all + manifest.files.len() as u64 + 4
    }

    /// Reads the bytes that the other node wants next, when the throttle allows them.
    async fn piece(
        &self,
        manifest: &Manifest,
        snapshot: &SnapshotDir,
        file: u32,
        offset: u64,
    ) -> Result<Bytes, SendError> {
        let unexpected = SendError::Answer(self.to);
        let Some(info) = manifest.files.get(file as usize) else {
            return Err(unexpected);
        };
        let rest = info.bytes.checked_sub(offset).filter(|rest| *rest > 0);
        let len = rest.ok_or(unexpected)?.min(self.piece_bytes() as u64) as usize;
        self.throttle.wait(len).await;
        let path = snapshot.data().join(&info.name);
        let read = BlockingIo::new(self.config).run(move || read_at(&path, offset, len));
        Ok(read.await?)
    }

    async fn call(
        &self,
        request: &SnapshotRequest,
        bytes: &[u8],
    ) -> Result<SnapshotResponse, SendError> {
        let timers = &self.config.timers;
        let timeout = match request {
            SnapshotRequest::Offer { .. } | SnapshotRequest::Install { .. } => {
                timers.snapshot_install
            }
            SnapshotRequest::Chunk { .. }
            | SnapshotRequest::Describe { .. }
            | SnapshotRequest::Read { .. } => timers.snapshot_chunk,
        };
        let request = codec::frame(request, bytes);
        let answer = self
            .transport
            .call(self.to, RaftLane::Snapshot, request, timeout)
            .await?;
        codec::decode("answer", &answer).map_err(|_| SendError::Answer(self.to))
    }
}

/// Reads a piece of a file.
pub(crate) fn read_at(path: &Path, offset: u64, len: usize) -> Result<Bytes, SnapshotError> {
    let read = || -> std::io::Result<Bytes> {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    };
    read().map_err(SnapshotError::io("read", path))
}
