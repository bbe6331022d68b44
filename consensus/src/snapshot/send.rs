use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{SnapshotDir, SnapshotError};
use crate::codec::{self, Manifest, SnapshotRequest, SnapshotResponse};
use crate::error::TransportError;
use crate::io::Io;
use crate::raft::{SnapshotMeta, Vote};
use crate::transport::{Lane, Transport};
use crate::{Config, NodeId};

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

/// Sends a snapshot and has it installed; returns the vote of the other node. What was sent before
/// an interruption is not sent again: the other node says what it wants next. `pulse` is called
/// whenever it answers.
pub(crate) async fn send(
    transport: &dyn Transport,
    to: NodeId,
    vote: Vote,
    meta: SnapshotMeta,
    snapshot: Arc<SnapshotDir>,
    config: &Config,
    pulse: impl Fn(),
) -> Result<Vote, SendError> {
    let io = Io::of(config);
    let dir = snapshot.clone();
    let manifest = io.run(move || dir.manifest(&meta)).await?;
    let hash = manifest.hash();
    let chunk_bytes = config.limits.snapshot_chunk_bytes;
    let mut steps = steps_max(&manifest, chunk_bytes);
    let call = Call {
        transport,
        to,
        config,
    };
    let offer = SnapshotRequest::Offer {
        vote,
        manifest: Manifest::clone(&manifest),
    };
    let mut answer = call.send(&offer, &[]).await?;
    loop {
        pulse();
        steps = steps.checked_sub(1).ok_or(SendError::Answer(to))?;
        answer = match answer {
            SnapshotResponse::Next { file, offset } => {
                let info = manifest
                    .files
                    .get(file as usize)
                    .ok_or(SendError::Answer(to))?;
                let left = info.bytes.checked_sub(offset).filter(|left| *left > 0);
                let len = left.ok_or(SendError::Answer(to))?.min(chunk_bytes as u64) as usize;
                let path = snapshot.data().join(&info.name);
                let bytes = io.run(move || read_at(&path, offset, len)).await?;
                let request = SnapshotRequest::Chunk {
                    vote,
                    manifest: hash,
                    file,
                    offset,
                };
                call.send(&request, &bytes).await?
            }
            SnapshotResponse::Complete => {
                call.send(
                    &SnapshotRequest::Install {
                        vote,
                        manifest: hash,
                    },
                    &[],
                )
                .await?
            }
            SnapshotResponse::Done { vote } => return Ok(vote),
            SnapshotResponse::Image { .. }
            | SnapshotResponse::NoImage
            | SnapshotResponse::Piece { .. } => return Err(SendError::Answer(to)),
        };
    }
}

/// More answers than this mean that the other node is not getting on.
fn steps_max(manifest: &Manifest, chunk_bytes: usize) -> u64 {
    let pieces = |bytes: u64| bytes.div_ceil(chunk_bytes as u64);
    let all: u64 = manifest.files.iter().map(|file| pieces(file.bytes)).sum();
    2 * all + manifest.files.len() as u64 + 4
}

struct Call<'a> {
    transport: &'a dyn Transport,
    to: NodeId,
    config: &'a Config,
}

impl Call<'_> {
    async fn send(
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
            .call(self.to, Lane::Snapshot, request, timeout)
            .await?;
        codec::decode("answer", &answer).map_err(|_| SendError::Answer(self.to))
    }
}

pub(super) fn read_at(path: &Path, offset: u64, len: usize) -> Result<Bytes, SnapshotError> {
    let read = || -> std::io::Result<Bytes> {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    };
    read().map_err(SnapshotError::io("read", path))
}
