//! Fetching an image, for a node that lost its state but neither its log nor its vote.
//!
//! Its log begins after what it has, so consensus can't start; and as it does not take part, no
//! leader sends it anything. It asks the others one after the other until one has an image that
//! reaches the beginning of its log, and reads that piece by piece. An interrupted transfer goes on
//! where it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Complete, ReceiveError, Receiver, Step};
use crate::codec::{self, Manifest, Marker, SnapshotRequest, SnapshotResponse};
use crate::config::Config;
use crate::error::{ConsensusError, TransportError};
use crate::io::Io;
use crate::log::LogStore;
use crate::machine::{Fatal, Rejected, StateMachine};
use crate::raft::NodeId;
use crate::transport::{Lane, Transport};

/// After a round in which no node had an image: one may be in the making.
const ROUND_EVERY: Duration = Duration::from_secs(2);

/// Why a node's image was not taken; the next node is asked.
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

/// Does nothing on a node whose state reaches its log. Otherwise returns when an image is
/// installed; only a failure of this node's own disk ends it earlier.
pub(crate) async fn fetch_if_behind(
    log: &LogStore,
    receiver: &mut Receiver,
    transport: &dyn Transport,
    machine: &Arc<dyn StateMachine>,
    config: &Config,
) -> Result<(), ConsensusError> {
    let Some(at_least) = log.ahead_of(&**machine)? else {
        return Ok(());
    };
    let fetch = Fetch {
        transport,
        machine,
        config,
        io: Io::of(config),
        at_least,
    };
    fetch.run(receiver).await
}

struct Fetch<'a> {
    transport: &'a dyn Transport,
    machine: &'a Arc<dyn StateMachine>,
    config: &'a Config,
    io: Io,
    /// The log index that the image has to reach.
    at_least: u64,
}

impl Fetch<'_> {
    async fn run(&self, receiver: &mut Receiver) -> Result<(), ConsensusError> {
        let sources = &self.config.sources;
        tracing::warn!(
            log_index = self.at_least,
            ?sources,
            "the state is behind the log: an image is fetched from another node"
        );
        loop {
            for node in sources {
                match self.from(*node, receiver).await {
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
            sleep(ROUND_EVERY).await;
        }
    }

    async fn from(&self, node: NodeId, receiver: &mut Receiver) -> Result<(), FetchError> {
        let manifest = self.describe(node).await?;
        let hash = manifest.hash();
        let mut step = receiver.offer(manifest)?;
        while let Step::Next { file, offset } = step {
            let request = SnapshotRequest::Read {
                manifest: hash,
                file,
                offset,
            };
            step = match self.ask(node, request).await? {
                SnapshotResponse::Piece { bytes } => receiver.chunk(hash, file, offset, bytes)?,
                SnapshotResponse::NoImage => return Err(FetchError::NotYet),
                _ => return Err(FetchError::Answer),
            };
        }
        let Complete { snapshot, .. } = receiver.complete(hash)?;
        let machine = self.machine.clone();
        let at_least = self.at_least;
        let installed = self.io.run(move || {
            let data = snapshot.data();
            let reaches = log_index(machine.check_snapshot(&data)?)?;
            if reaches < at_least {
                return Err(FetchError::TooOld(reaches));
            }
            // If it fails in the middle, the next start needs the image again.
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
        match self.ask(node, request).await? {
            SnapshotResponse::Image { manifest } => Ok(manifest),
            SnapshotResponse::NoImage => Err(FetchError::NotYet),
            _ => Err(FetchError::Answer),
        }
    }

    async fn ask(
        &self,
        node: NodeId,
        request: SnapshotRequest,
    ) -> Result<SnapshotResponse, FetchError> {
        let time = self.config.timers.snapshot_chunk;
        let bytes = codec::frame(&request, &[]);
        let answer = self
            .transport
            .call(node, Lane::Snapshot, bytes, time)
            .await?;
        codec::decode("answer", &answer).map_err(|_| FetchError::Answer)
    }
}

/// Where the log goes on after an image.
fn log_index(marker: Option<Vec<u8>>) -> Result<u64, FetchError> {
    let marker = marker.ok_or(FetchError::Answer)?;
    let marker: Marker = codec::decode("marker", &marker).map_err(|_| FetchError::Answer)?;
    Ok(marker.log_id.index)
}
