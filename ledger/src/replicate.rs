//! Brings every released artifact to this validator, and says on the ledger that it is here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_contracts::firmware;
use lamplighter_types::{Action, Fact, FirmwareAction, Hash};
use tokio_util::sync::CancellationToken;

use crate::alarms::NodeAlarm;
use crate::artifacts::{ArtifactPeers, ArtifactRequest, Artifacts, PeerFailure};
use crate::feed::Subscription;
use crate::inner::Inner;
use crate::message::{PeerAnswer, PeerRequest};
use crate::own;
use crate::ticket::Verdict;

/// Between two looks at what is still missing.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at uploads that were given up.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);
/// Artifacts looked at in one pass.
const PAGE: usize = 256;
/// For an own transaction to be in a block.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let work = async {
        let mut feed = inner.feeds.own(None);
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
        () = drop_expired(&inner.artifacts) => {}
        () = stop.cancelled() => {}
    }
}

/// Drops unfinished uploads that were given up, from the start on.
async fn drop_expired(artifacts: &Artifacts) {
    let mut every = tokio::time::interval(EXPIRE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        artifacts.expire(SystemTime::now()).await;
    }
}

/// Waits for a new release; `false` when the node stops.
async fn next_published(feed: &mut Subscription) -> bool {
    loop {
        match feed.next().await {
            Ok(Some(part)) => {
                let is_new = |f: &Fact| matches!(f, Fact::ReleasePublished { .. });
                if part.deliveries.iter().any(|d| is_new(&d.notification.fact)) {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(%error, "the feed can't be read: artifacts are replicated later");
                tokio::time::sleep(LOOK_AGAIN_EVERY).await;
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
