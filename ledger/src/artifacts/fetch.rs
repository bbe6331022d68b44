use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_types::Hash;
use lamplighter_types::artifact::{GROUP_BYTES, Groups};

use super::{ArtifactError, Artifacts, Uploader};
use crate::message::{ArtifactRequest, RANGE_BYTES_MAX};

/// Why a peer did not answer a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFailure {
    #[error("it does not have it")]
    Missing,
    #[error("{0}")]
    Unreachable(String),
    #[error("it sent bytes that are not those of the artifact")]
    Wrong,
}

/// The nodes that artifacts can be fetched from.
#[async_trait]
pub trait ArtifactPeers: Send + Sync {
    /// The peers to ask, in this order.
    fn peers(&self) -> Vec<u64>;

    async fn fetch(&self, peer: u64, request: ArtifactRequest) -> Result<Bytes, PeerFailure>;
}

impl Artifacts {
    /// Fetches an artifact from the peers unless it is here. Each group is checked when it arrives;
    /// a peer that sends wrong bytes is not asked further; fetched bytes stay for the next try.
    pub async fn fetch_missing(
        &self,
        digest: Hash,
        size_bytes: u64,
        peers: &impl ArtifactPeers,
    ) -> Result<(), ArtifactError> {
        let offset = self.begin(&Uploader::Node, digest, size_bytes).await?;
        if offset == size_bytes && self.size(&digest).is_some() {
            return Ok(());
        }
        for peer in peers.peers() {
            match self.fetch_from(digest, size_bytes, peers, peer).await {
                Ok(()) => return Ok(()),
                Err(FetchError::Peer(failure)) => {
                    tracing::debug!(%digest, peer, %failure, "another peer is asked");
                }
                Err(FetchError::Local(error)) => return Err(error),
            }
        }
        Err(ArtifactError::NoPeer(digest))
    }

    async fn fetch_from(
        &self,
        digest: Hash,
        size_bytes: u64,
        peers: &impl ArtifactPeers,
        peer: u64,
    ) -> Result<(), FetchError> {
        let values = peers
            .fetch(peer, ArtifactRequest::Groups { digest })
            .await?;
        let groups = Groups::from_bytes(digest, size_bytes, &values);
        let groups = groups.map_err(|_| PeerFailure::Wrong)?;
        loop {
            let offset = self.offset(&Uploader::Node, digest).await?;
            if offset == size_bytes {
                return Ok(());
            }
            let length = (size_bytes - offset).min(RANGE_BYTES_MAX);
            let request = ArtifactRequest::Range {
                digest,
                offset,
                length,
            };
            let bytes = peers.fetch(peer, request).await?;
            check(&groups, offset, length, &bytes)?;
            let node = &Uploader::Node;
            self.append(node, digest, offset, bytes).await?;
        }
    }
}

/// Checks the groups that lie whole in a piece. After a power failure the first piece may begin in
/// the middle of a group; that group is checked with the whole artifact at the end.
fn check(groups: &Groups, offset: u64, length: u64, bytes: &[u8]) -> Result<(), PeerFailure> {
    if bytes.len() as u64 != length {
        return Err(PeerFailure::Wrong);
    }
    let group_bytes = GROUP_BYTES as u64;
    for group in offset.div_ceil(group_bytes)..groups.count() {
        let begins = (group * group_bytes - offset) as usize;
        let Some(part) = bytes.get(begins..begins + groups.group_bytes(group)) else {
            break;
        };
        groups.verify(group, part).map_err(|_| PeerFailure::Wrong)?;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Peer(#[from] PeerFailure),
    #[error(transparent)]
    Local(#[from] ArtifactError),
}
