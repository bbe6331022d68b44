//! Fetching a snapshot, for a node that lost its state but neither its log nor its vote.
//!
//! Its log begins after its state, so consensus can't start; and as it does not take part, no
//! leader sends it anything. It asks the other nodes in turn until one has a snapshot that reaches
//! the beginning of its log, and reads that piece by piece. An interrupted transfer continues where
//! it stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::message::{Manifest, SnapshotRequest, SnapshotResponse};
use super::{ReceiveError, ReceivedSnapshot, SnapshotReceiver, TransferStep};
use crate::blocking_io::BlockingIo;
use crate::codec;
use crate::config::ConsensusConfig;
use crate::error::{ConsensusError, TransportError};
use crate::state_machine::{Fatal, Rejected, StateMachine};
use crate::transport::{RaftLane, Transport};
use crate::types::{Marker, NodeId};

/// The pause after a round in which no node had a snapshot; one may be in the making.
const ROUND_PAUSE: Duration = Duration::from_secs(2);

/// The reason why a node's snapshot was not installed; the next node is asked.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("it has no image yet")]
    NotYet,
    #[error("it answers what it should not")]
    Answer,
    #[error("its image ends at log index {0}, before this node's log begins")]
    TooOld(u64),
    #[error(transparent)]
    Install(#[from] Fatal),
}

/// Fetches and installs a snapshot that reaches the log index `at_least`. Only a failure of this
/// node's own disk ends it without one.
pub(crate) async fn fetch_snapshot(
    at_least: u64,
    receiver: &mut SnapshotReceiver,
    transport: &dyn Transport,
    machine: &Arc<dyn StateMachine>,
    config: &ConsensusConfig,
) -> Result<(), ConsensusError> {
    let fetch = SnapshotFetch {
        transport,
        machine,
        config,
        io: BlockingIo::new(config),
        at_least,
    };
    fetch.run(receiver).await
}

struct SnapshotFetch<'a> {
    transport: &'a dyn Transport,
    machine: &'a Arc<dyn StateMachine>,
    config: &'a ConsensusConfig,
    io: BlockingIo,
    /// The log index that the snapshot has to reach.
    at_least: u64,
}

impl SnapshotFetch<'_> {
    async fn run(&self, receiver: &mut SnapshotReceiver) -> Result<(), ConsensusError> {
        let sources = &self.config.sources;
        tracing::warn!(
            log_index = self.at_least,
            ?sources,
            "the state is behind the log: an image is fetched from another node"
        );
        loop {
            for node in sources {
                match self.fetch_from(*node, receiver).await {
                    Ok(()) => return Ok(()),
                    Err(FetchError::Install(fatal)) => {
                        return Err(ConsensusError::Snapshots(fatal.into()));
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(node, error, "no image from there");
                    }
                }
            }
            sleep(ROUND_PAUSE).await;
        }
    }

    async fn fetch_from(
        &self,
        node: NodeId,
        receiver: &mut SnapshotReceiver,
    ) -> Result<(), FetchError> {
        let manifest = self.describe(node).await?;
        let hash = manifest.hash();
        let mut step = receiver.offer(manifest)?;
        while let TransferStep::Next { file, offset } = step {
            let request = SnapshotRequest::Read {
                manifest: hash,
                file,
                offset,
            };
            step = match self.call(node, request).await? {
                SnapshotResponse::Piece { bytes } => receiver.chunk(hash, file, offset, bytes)?,
                SnapshotResponse::NoImage => return Err(FetchError::NotYet),
                _ => return Err(FetchError::Answer),
            };
        }
        let ReceivedSnapshot { snapshot, .. } = receiver.complete(hash)?;
        let machine = self.machine.clone();
        let at_least = self.at_least;
        let installed = self.io.run(move || {
            let data = snapshot.data();
            let reaches = log_index(machine.check_snapshot(&data)?)?;
            if reaches < at_least {
                return Err(FetchError::TooOld(reaches));
            }
            // If the installation fails, the next start needs the snapshot again.
            snapshot.keep();
            machine.install_snapshot(&data)?;
            snapshot.set_obsolete();
            Ok(())
        });
        installed.await?;
        tracing::info!(node, "the image from there is installed");
        Ok(())
    }

    async fn describe(&self, node: NodeId) -> Result<Manifest, FetchError> {
        let request = SnapshotRequest::Describe {
            at_least: self.at_least,
        };
        match self.call(node, request).await? {
            SnapshotResponse::Image { manifest } => Ok(manifest),
            SnapshotResponse::NoImage => Err(FetchError::NotYet),
            _ => Err(FetchError::Answer),
        }
    }

    async fn call(
        &self,
        node: NodeId,
        request: SnapshotRequest,
    ) -> Result<SnapshotResponse, FetchError> {
        let time = self.config.timers.snapshot_chunk;
        let bytes = codec::frame(&request, &[]);
        let answer = self
            .transport
            .call(node, RaftLane::Snapshot, bytes, time)
            .await?;
        codec::decode("answer", &answer).map_err(|_| FetchError::Answer)
    }
}

/// The last log index in a snapshot.
fn log_index(marker: Option<Vec<u8>>) -> Result<u64, FetchError> {
    let marker = marker.ok_or(FetchError::Answer)?;
    let marker: Marker = codec::decode("marker", &marker).map_err(|_| FetchError::Answer)?;
    Ok(marker.log_id.index)
}
