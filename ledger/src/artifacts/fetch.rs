use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_types::Hash;
use lamplighter_types::artifact::{GROUP_BYTES, Groups};

use super::{ArtifactError, Artifacts, Charge, Uploader};
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
    /// Fetches an artifact from the peers unless it is here, and counts its bytes to `charge`. Each
    /// group is checked when it arrives; a peer that sends wrong bytes is not asked further;
    /// fetched bytes stay for the next try. Nothing is reserved for bytes that no peer shows.
    pub(crate) async fn fetch_missing(
        &self,
        digest: Hash,
        size_bytes: u64,
        charge: &Charge,
        peers: &impl ArtifactPeers,
    ) -> Result<(), ArtifactError> {
        if self.size(&digest).is_some() {
            return Ok(());
        }
        let fetch = Fetch {
            digest,
            size_bytes,
            charge,
        };
        for peer in peers.peers() {
            match self.fetch_from(&fetch, peers, peer).await {
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
        fetch: &Fetch<'_>,
        peers: &impl ArtifactPeers,
        peer: u64,
    ) -> Result<(), FetchError> {
        let &Fetch {
            digest,
            size_bytes,
            charge,
        } = fetch;
        let values = peers
            .fetch(peer, ArtifactRequest::Groups { digest })
            .await?;
        let groups = Groups::from_bytes(digest, size_bytes, &values);
        let groups = groups.map_err(|_| PeerFailure::Wrong)?;
        let mut offset = self.fetched(digest, size_bytes).await?;
        while offset < size_bytes {
            let length = (size_bytes - offset).min(RANGE_BYTES_MAX);
            let request = ArtifactRequest::Range {
                digest,
                offset,
                length,
            };
            let bytes = peers.fetch(peer, request).await?;
            check(&groups, offset, length, &bytes)?;
            // Only now: the groups of a small artifact prove nothing by themselves.
            if self.begin_fetch(digest, size_bytes, charge).await? == offset {
                self.append(&Uploader::Node, digest, offset, bytes).await?;
            }
            offset = self.offset(&Uploader::Node, digest).await?;
        }
        // The node may have stopped between the last byte and the check of the whole.
        self.begin_fetch(digest, size_bytes, charge).await?;
        Ok(())
    }

    /// The number of bytes that earlier tries have fetched.
    async fn fetched(&self, digest: Hash, size_bytes: u64) -> Result<u64, ArtifactError> {
        match self.announced(&(digest, Uploader::Node)) {
            Ok(announced) if announced == size_bytes => self.offset(&Uploader::Node, digest).await,
            // Nothing was fetched, or an artifact of another size was announced by its digest.
            Ok(_) | Err(_) => Ok(0),
        }
    }
}

/// An artifact to be fetched.
struct Fetch<'a> {
    digest: Hash,
    size_bytes: u64,
    charge: &'a Charge,
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
