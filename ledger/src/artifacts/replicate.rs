//! Brings every released artifact to this validator, and reports on the ledger that it is held
//! here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_contracts::firmware;
use lamplighter_types::{Action, Fact, FirmwareAction, Hash};
use tokio_util::sync::CancellationToken;

use super::{ArtifactPeers, Artifacts, PeerFailure};
use crate::alarms::{Alarms, NodeAlarm};
use crate::chain::Chain;
use crate::message::{ArtifactRequest, PeerAnswer, PeerRequest, Peers};
use crate::read::feed::Subscription;
use crate::submit::mempool::Verdict;
use crate::submit::node_account::NodeAccount;

/// Time between two passes while artifacts are missing.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// Time between two searches for abandoned uploads.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);
/// Artifacts read at once in a pass.
const PAGE: usize = 256;
/// Deadline for a transaction of the node to be in a block.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct ArtifactReplicator {
    pub node: u64,
    pub chain: Arc<Chain>,
    pub artifacts: Artifacts,
    pub node_account: Arc<NodeAccount>,
    pub peers: Arc<dyn Peers>,
    pub alarms: Arc<Alarms>,
}

impl ArtifactReplicator {
    /// Replicates until `stop`; `feed` brings the new releases.
    pub async fn run(self, feed: Subscription, stop: CancellationToken) {
        tokio::select! {
            () = self.replicate(feed) => {}
            () = drop_expired(&self.artifacts) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn replicate(&self, mut feed: Subscription) {
        let mut complete = false;
        let mut damaged = self.artifacts.damaged();
        loop {
            if !complete {
                complete = self.hold_all().await;
            }
            let running = tokio::select! {
                running = next_release(&mut feed) => running,
                () = tokio::time::sleep(RETRY_EVERY), if !complete => true,
                Ok(()) = damaged.changed() => {
                    if let (_, Some(digest)) = *damaged.borrow_and_update() {
                        self.alarms.raise(NodeAlarm::DamagedArtifact(digest));
                    }
                    true
                }
            };
            if !running {
                return;
            }
            complete = false;
        }
    }

    /// Goes through the artifacts that this node has not reported as held. Returns whether all are
    /// done.
    async fn hold_all(&self) -> bool {
        let validators = self.chain.read_head().validators.clone();
        if validators.by_node(self.node).is_none() {
            return true;
        }
        let mut after: Option<Hash> = None;
        let mut all = true;
        loop {
            let page = firmware::artifacts(&self.chain.live_view(), after.as_ref(), PAGE);
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the artifacts can't be listed");
                    return false;
                }
            };
            for artifact in &page {
                // One that was damaged here since this node reported it is fetched again.
                let reported = artifact.holders.contains(&self.node);
                if !reported || self.artifacts.size(&artifact.digest).is_none() {
                    let (digest, size_bytes) = (artifact.digest, artifact.size_bytes);
                    all &= self.hold(digest, size_bytes, reported).await;
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.digest),
                _ => return all,
            }
        }
    }

    /// Fetches one artifact if it is missing, and reports it unless that is done already. Returns
    /// whether both succeeded.
    async fn hold(&self, digest: Hash, size_bytes: u64, reported: bool) -> bool {
        let peers = ValidatorSource(&*self.peers);
        let fetched = self.artifacts.fetch_missing(digest, size_bytes, &peers);
        if let Err(error) = fetched.await {
            tracing::info!(%digest, %error, "an artifact is not here yet");
            return false;
        }
        if reported {
            return true;
        }
        let action = FirmwareAction::HoldArtifact {
            artifact: digest,
            size_bytes,
        };
        let ticket = match self.node_account.submit(Action::Firmware(action)).await {
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
}

/// Drops abandoned uploads, from the start on.
async fn drop_expired(artifacts: &Artifacts) {
    let mut every = tokio::time::interval(EXPIRE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        artifacts.expire(SystemTime::now()).await;
    }
}

/// Waits for a new release; returns `false` when the node stops.
async fn next_release(feed: &mut Subscription) -> bool {
    loop {
        match feed.next().await {
            Ok(Some(step)) => {
                let is_release = |f: &Fact| matches!(f, Fact::ReleasePublished { .. });
                let mut facts = step.events.iter().map(|e| &e.notification.fact);
                if facts.any(is_release) {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(%error, "the feed can't be read: artifacts are replicated later");
                tokio::time::sleep(RETRY_EVERY).await;
            }
        }
    }
}

/// The validators as a source of artifacts.
struct ValidatorSource<'a>(&'a dyn Peers);

#[async_trait]
impl ArtifactPeers for ValidatorSource<'_> {
    fn peers(&self) -> Vec<u64> {
        self.0.connected()
    }

    async fn fetch(&self, peer: u64, request: ArtifactRequest) -> Result<Bytes, PeerFailure> {
        match self.0.request(peer, PeerRequest::Artifact(request)).await {
            Ok(PeerAnswer::Artifact(bytes)) => Ok(bytes),
            Ok(_) => Err(PeerFailure::Missing),
            Err(error) => Err(PeerFailure::Unreachable(error.to_string())),
        }
    }
}
