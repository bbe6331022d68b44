//! Brings every released artifact to this validator, and says on the ledger that it is here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_contracts::firmware;
use lamplighter_types::{Action, Fact, FirmwareAction, Hash};
use tokio_util::sync::CancellationToken;

use crate::alarms::NodeAlarm;
use crate::artifacts::{ArtifactPeers, ArtifactRequest, PeerFailure};
use crate::feed::{Cursor, Subscription};
use crate::inner::Inner;
use crate::message::{PeerAnswer, PeerRequest};
use crate::own;
use crate::ticket::Verdict;

/// Between two looks at what is still missing.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(2);
/// Artifacts looked at in one pass.
const PAGE: usize = 256;
/// For an own transaction to be in a block.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let work = async {
        let head = inner.chain.head().height;
        let first = Cursor {
            height: head + 1,
            index: 0,
        };
        let mut feed = Subscription::starting_at(inner.chain.clone(), first);
        let mut complete = false;
        let mut damaged = inner.artifacts.damaged();
        loop {
            if !complete {
                complete = hold_all(&inner).await;
            }
            let published = tokio::select! {
                published = next_published(&mut feed) => published,
                () = tokio::time::sleep(LOOK_AGAIN_EVERY), if !complete => true,
                Ok(()) = damaged.changed() => {
                    if let (_, Some(digest)) = *damaged.borrow_and_update() {
                        let alarm = NodeAlarm::DamagedArtifact(digest);
                        inner.alarms.raise(alarm, inner.clock.now_ms());
                    }
                    true
                }
            };
            if !published {
                return;
            }
            complete = false;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Waits for a new release; `false` when the node stops.
async fn next_published(feed: &mut Subscription) -> bool {
    loop {
        match feed.next().await {
            Ok(Some(deliveries)) => {
                let is_new = |f: &Fact| matches!(f, Fact::ReleasePublished { .. });
                if deliveries.iter().any(|d| is_new(&d.notification.fact)) {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(%error, "the feed can't be read: artifacts are not replicated");
                return false;
            }
        }
    }
}

/// Goes through the artifacts that this node has not said to hold; whether none is left.
async fn hold_all(inner: &Arc<Inner>) -> bool {
    let node = inner.config.node;
    if inner.chain.read_head().validators.by_node(node).is_none() {
        return true;
    }
    let mut after: Option<Hash> = None;
    let mut all = true;
    loop {
        let page = firmware::artifacts(&inner.chain.newest_view(), after.as_ref(), PAGE);
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "the artifacts can't be listed");
                return false;
            }
        };
        for artifact in &page {
            // One that was damaged here since this node said that it holds it is fetched again.
            let said = artifact.holders.contains(&node);
            if !said || inner.artifacts.size(&artifact.digest).is_none() {
                all &= hold(inner, artifact.digest, artifact.size_bytes, said).await;
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.digest),
            _ => return all,
        }
    }
}

/// Gets one artifact if it is missing, and says so unless that was `said`; whether that is done.
async fn hold(inner: &Arc<Inner>, digest: Hash, size_bytes: u64, said: bool) -> bool {
    let peers = LedgerPeers(inner.clone());
    if let Err(error) = inner
        .artifacts
        .fetch_missing(digest, size_bytes, &peers)
        .await
    {
        tracing::info!(%digest, %error, "an artifact is not here yet");
        return false;
    }
    if said {
        return true;
    }
    let action = FirmwareAction::HoldArtifact {
        artifact: digest,
        size_bytes,
    };
    let ticket = match own::submit(inner, Action::Firmware(action)).await {
        Ok(ticket) => ticket,
        Err(error) => {
            tracing::info!(%digest, %error, "the node's own transaction was not taken");
            return false;
        }
    };
    match tokio::time::timeout(COMMIT_WITHIN, ticket.verdict()).await {
        Ok(Verdict::Committed(commitment)) => commitment.receipt.succeeded(),
        _ => false,
    }
}

/// The validators as a source of artifacts.
struct LedgerPeers(Arc<Inner>);

#[async_trait]
impl ArtifactPeers for LedgerPeers {
    fn peers(&self) -> Vec<u64> {
        self.0.peers.connected()
    }

    async fn fetch(&self, peer: u64, request: ArtifactRequest) -> Result<Bytes, PeerFailure> {
        match self
            .0
            .peers
            .request(peer, PeerRequest::Artifact(request))
            .await
        {
            Ok(PeerAnswer::Artifact(bytes)) => Ok(bytes),
            Ok(_) => Err(PeerFailure::Missing),
            Err(error) => Err(PeerFailure::Unreachable(error.to_string())),
        }
    }
}
