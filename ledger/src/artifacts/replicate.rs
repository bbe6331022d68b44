//! Brings every released artifact to this validator, and reports on the ledger that it is held
//! here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use lamplighter_state::StateError;
use lamplighter_types::{Action, Fact, FirmwareAction, Hash};
use tokio_util::sync::CancellationToken;

use super::wanted::{Disposition, Dispositions, WantedArtifact};
use super::{ArtifactPeers, Artifacts, PeerFailure};
use crate::alarms::{Alarms, NodeAlarm};
use crate::blocking::Blocking;
use crate::chain::Chain;
use crate::message::{ArtifactRequest, PeerAnswer, PeerRequest, Peers};
use crate::read::feed::{NotificationFilter, Subscription};
use crate::submit::mempool::Verdict;
use crate::submit::node_account::NodeAccount;

/// Time until the next pass while artifacts are missing; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// Longest time between two passes while artifacts are missing: an image that is uploaded after its
/// release was published waits no longer.
const RETRY_MAX: Duration = Duration::from_secs(16);
/// Time between two searches for abandoned uploads.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);
/// Time between two searches for artifacts that are not needed any more; they are kept for days.
const COLLECT_EVERY: Duration = Duration::from_secs(600);
/// Deadline for a transaction of the node to be in a block.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct ArtifactReplicator {
    pub node: u64,
    pub chain: Arc<Chain>,
    pub artifacts: Artifacts,
    pub node_account: Arc<NodeAccount>,
    pub peers: Arc<dyn Peers>,
    pub alarms: Arc<Alarms>,
    pub blocking: Blocking,
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
        let mut damaged = self.artifacts.damaged();
        let mut retry = RETRY_FIRST;
        loop {
            let wait = match self.pass().await {
                Pass::Complete => COLLECT_EVERY,
                Pass::Again => continue,
                Pass::Retry => retry,
            };
            // What nobody has (yet) is asked for less and less often.
            retry = (retry * 2).min(RETRY_MAX);
            tokio::select! {
                running = next_release(&mut feed) => {
                    if !running {
                        return;
                    }
                    retry = RETRY_FIRST;
                }
                () = tokio::time::sleep(wait) => {}
                () = self.artifacts.0.completed.notified() => {}
                Ok(()) = damaged.changed() => {
                    if let (_, Some(digest)) = *damaged.borrow_and_update() {
                        self.alarms.raise(NodeAlarm::DamagedArtifact(digest));
                    }
                    retry = RETRY_FIRST;
                }
            }
        }
    }

    /// Collects what is not needed any more, then holds what this node should hold and has not
    /// reported.
    async fn pass(&self) -> Pass {
        let (mut done, wanted) = match self.collect().await {
            Ok(collected) => collected,
            Err(error) => {
                tracing::error!(%error, "the artifacts can't be listed");
                return Pass::Retry;
            }
        };
        let wanted = if self.is_validator() {
            wanted
        } else {
            Vec::new()
        };
        for wanted in wanted {
            // One that was damaged here since this node reported it is fetched again.
            let reported = wanted.artifact.holders.contains(&self.node);
            let missing = self.artifacts.size(&wanted.artifact.digest).is_none();
            if reported && !missing {
                continue;
            }
            let held = self.hold(&wanted, reported).await;
            done &= held;
            if held && missing && !wanted.is_released() {
                // It may have taken long: what was released meanwhile comes first.
                return Pass::Again;
            }
        }
        if done { Pass::Complete } else { Pass::Retry }
    }

    fn is_validator(&self) -> bool {
        let validators = self.chain.read_head().validators.clone();
        validators.by_node(self.node).is_some()
    }

    /// Removes the artifacts that are not needed any more, and counts the others to those who
    /// answer for them. Returns whether all is removed, and what this node should hold.
    ///
    /// First the ledger is told that this node no longer holds an artifact, and the bytes are
    /// removed in a following pass, by a state that has it so. The same task reports holding, so
    /// the record never names this node without its bytes, whatever is published meanwhile: after a
    /// crash between the two the bytes are here without the record, and are removed, or reported
    /// again if a new release needs them.
    async fn collect(&self) -> Result<(bool, Vec<WantedArtifact>), StateError> {
        let Plan { kept, wanted } = self.plan().await?;
        let mut done = true;
        for (digest, size_bytes, disposition, is_holder) in kept {
            let collect = match disposition {
                Disposition::Hold(charge) | Disposition::Keep(charge) => {
                    self.artifacts.set_charge(&digest, charge);
                    false
                }
                Disposition::Unpublished => self.artifacts.is_abandoned(&digest, SystemTime::now()),
                Disposition::Collect => true,
            };
            if !collect {
                continue;
            }
            if self.is_validator() && is_holder {
                let action = FirmwareAction::DropArtifact {
                    artifact: digest,
                    size_bytes,
                };
                self.submit(&digest, action).await;
                done = false;
                continue;
            }
            tracing::info!(%digest, "an artifact is not needed any more");
            if let Err(error) = self.artifacts.remove_complete(digest).await {
                tracing::warn!(%digest, %error, "an artifact can't be removed now");
                done = false;
            }
        }
        Ok((done, wanted))
    }

    /// Reads the ledger's word on every artifact, off the async threads: there may be many.
    async fn plan(&self) -> Result<Plan, StateError> {
        let (chain, node) = (self.chain.clone(), self.node);
        let kept = self.artifacts.list();
        let read = move || {
            let time_ms = chain.read_head().header.timestamp_ms;
            let dispositions = Dispositions::new(chain.consistent_view()?, time_ms)?;
            let plan = |(digest, size_bytes)| {
                let is_holder = dispositions.is_holder(&digest, size_bytes, node)?;
                Ok((digest, size_bytes, dispositions.of(&digest)?, is_holder))
            };
            let kept: Result<_, StateError> = kept.into_iter().map(plan).collect();
            let wanted = dispositions.wanted()?;
            Ok(Plan {
                kept: kept?,
                wanted,
            })
        };
        self.blocking.run(read).await
    }

    /// Fetches one artifact if it is missing, and reports it unless that is done already. Returns
    /// whether both succeeded.
    async fn hold(&self, wanted: &WantedArtifact, reported: bool) -> bool {
        let WantedArtifact { artifact, charge } = wanted;
        let (digest, size_bytes) = (artifact.digest, artifact.size_bytes);
        let peers = ValidatorSource(&*self.peers);
        let fetched = self
            .artifacts
            .fetch_missing(digest, size_bytes, charge, &peers);
        if let Err(error) = fetched.await {
            tracing::info!(%digest, %error, "an artifact is not here yet");
            return false;
        }
        if reported {
            return true;
        }
        if self.artifacts.size(&digest) != Some(size_bytes) {
            // The release names a wrong size: nobody will ever hold that.
            return true;
        }
        let action = FirmwareAction::HoldArtifact {
            artifact: digest,
            size_bytes,
        };
        self.submit(&digest, action).await
    }

    /// Submits a transaction of this node about an artifact; returns whether it succeeded.
    async fn submit(&self, digest: &Hash, action: FirmwareAction) -> bool {
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

/// The ledger's word on artifacts.
struct Plan {
    /// Artifacts that are here, with their sizes; whether the ledger has this node as a holder.
    kept: Vec<(Hash, u64, Disposition, bool)>,
    /// Artifacts that should be here.
    wanted: Vec<WantedArtifact>,
}

/// The outcome of a pass through the artifacts.
enum Pass {
    Complete,
    /// There is more to do at once.
    Again,
    /// Some artifacts could not be held or removed.
    Retry,
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

/// The notifications for which artifacts are looked through.
pub(crate) fn releases() -> NotificationFilter {
    Arc::new(|notification| matches!(notification.fact, Fact::ReleasePublished { .. }))
}

/// Waits for a new release; returns `false` when the node stops.
async fn next_release(feed: &mut Subscription) -> bool {
    loop {
        match feed.next().await {
            Ok(Some(step)) => {
                if !step.events.is_empty() {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(%error, "the feed can't be read: artifacts are replicated later");
                tokio::time::sleep(RETRY_FIRST).await;
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
