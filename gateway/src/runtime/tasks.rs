//! Background tasks: requests to nodes and proofs, which would hold up the event loop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_client::{Client, ClientError, TrustAnchor};
use lamplighter_system::{Backoff, error_chain};
use lamplighter_types::proof::SetPath;
use lamplighter_types::wire::Wait;
use lamplighter_types::wire::work::WorkMessage;
use lamplighter_types::{Hash, Id, PublicKey, Receipt, SignedTransaction};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::artifact::ArtifactCache;
use crate::lwm2m::order;
use crate::verify::{ProvenState, VerifyError};

/// The node that is asked for a proof may be some blocks behind the one that announced the receipt:
/// it is asked again so often, after these pauses. They are at least 3 s together, though each may
/// be half of what it is at most.
const PROOF_RETRIES: usize = 7;
const PROOF_PAUSE_MIN: Duration = Duration::from_millis(100);
const PROOF_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Time between two requests for the validators in force.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);

/// The result of a background task.
pub(super) enum TaskResult {
    ArtifactFetched {
        device: Id,
        digest: Hash,
        available: bool,
    },
    /// A receipt that is proven by the block at a height; `None`: no node has proven it.
    ReceiptFetched {
        transaction: Hash,
        proven: Option<(Receipt, u64)>,
    },
    /// A receipt that other nodes have proven while the node of a connection was silent about it.
    ProvenElsewhere {
        connection: u64,
        transaction: Hash,
        proven: (Receipt, u64),
    },
    /// The highest sequence number of the key on the ledger; `None`: no node answered.
    SequenceFetched(Option<u64>),
    /// The highest number of a device's events on the ledger; `None`: no node answered.
    EventNumberFetched {
        device: Id,
        highest: Option<u64>,
    },
    /// Encoded changes of the validators for a Thing; `None`: no node has shown any.
    ChangesFetched {
        device: Id,
        changes: Option<Vec<u8>>,
    },
    WorkVerified(Box<Result<(WorkMessage, ProvenState), VerifyError>>),
    /// There is nothing to do.
    Nothing,
    /// Another node than the one that the gateway is connected to has proven a newer head.
    OthersAhead {
        newer_than_ms: u64,
    },
    /// The validators in force were asked for; `newer`: others are trusted than before.
    ValidatorsFollowed {
        newer: bool,
    },
}

/// The running background tasks.
pub(super) struct BackgroundTasks {
    client: Client,
    key: PublicKey,
    cache: ArtifactCache,
    tasks: JoinSet<TaskResult>,
    /// The node that the gateway is connected to.
    node: usize,
    /// The validators in force are being asked for.
    following: bool,
    /// When they were last asked for.
    followed_at: Option<Instant>,
    /// The devices for whose Things changes of the validators are being fetched.
    leading: BTreeSet<Id>,
}

impl BackgroundTasks {
    pub fn new(client: Client, key: PublicKey, cache: ArtifactCache) -> Self {
        Self {
            client,
            key,
            cache,
            tasks: JoinSet::new(),
            node: 0,
            following: false,
            followed_at: None,
            leading: BTreeSet::new(),
        }
    }

    /// Asks the node at this index of the configuration first.
    pub fn prefer_node(&mut self, node: usize) {
        self.node = node;
        self.client.prefer(node);
    }

    /// Asks the other nodes for a certified head that was made after this Unix time.
    pub fn ask_others(&mut self, newer_than_ms: u64) {
        let (client, node) = (self.client.clone(), self.node);
        self.tasks.spawn(async move {
            if client.others_have_head(node, newer_than_ms).await {
                TaskResult::OthersAhead { newer_than_ms }
            } else {
                TaskResult::Nothing
            }
        });
    }

    /// The result of the next task that ends; `None` if there is no task.
    pub async fn next(&mut self) -> Option<Result<TaskResult, JoinError>> {
        self.tasks.join_next().await
    }

    /// Ends all tasks.
    pub async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Fetches an artifact into the cache, or checks the one that is there. The cache does not
    /// evict those `in_use`.
    pub fn fetch_artifact(&mut self, device: Id, digest: Hash, size_bytes: u64, in_use: Vec<Hash>) {
        let (cache, client) = (self.cache.clone(), self.client.clone());
        self.tasks.spawn(async move {
            let result = cache.ensure(&client, digest, size_bytes, in_use).await;
            if let Err(error) = &result {
                let error = error_chain(error);
                tracing::warn!(%digest, error, "an artifact can't be had now");
            }
            TaskResult::ArtifactFetched {
                device,
                digest,
                available: result.is_ok(),
            }
        });
    }

    /// Fetches the proven receipt of a transaction.
    pub fn fetch_receipt(&mut self, transaction: Hash) {
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let result = retry_proof(|| client.proven_receipt(&transaction)).await;
            if let Err(error) = &result {
                let error = error_chain(error);
                tracing::info!(%transaction, error, "a receipt is not proven yet");
            }
            let proven = result.ok();
            TaskResult::ReceiptFetched {
                transaction,
                proven: proven.map(|(receipt, proof)| (receipt, proof.height)),
            }
        });
    }

    /// Sends a transaction to the nodes over HTTP, until one of them proves its receipt: the node
    /// of this connection is silent about it. The same bytes count once, wherever they arrive.
    pub fn send_elsewhere(
        &mut self,
        connection: u64,
        transaction: Hash,
        envelope: SignedTransaction,
    ) {
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let submitted = client.submit_signed(&envelope, Wait::Certified).await;
            match submitted.map(|submitted| submitted.receipt.zip(submitted.height)) {
                Ok(Some(proven)) => TaskResult::ProvenElsewhere {
                    connection,
                    transaction,
                    proven,
                },
                Ok(None) => TaskResult::Nothing,
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::info!(%transaction, error, "no other node proves it either");
                    TaskResult::Nothing
                }
            }
        });
    }

    /// Reads the highest sequence number of the key from a node.
    pub fn fetch_sequence(&mut self) {
        let (client, key) = (self.client.clone(), self.key);
        self.tasks.spawn(async move {
            let result = client.key(&key).await;
            if let Err(error) = &result {
                let error = error_chain(error);
                tracing::warn!(error, "the key's sequence number is not known");
            }
            TaskResult::SequenceFetched(result.ok().map(|read| read.value.highest_sequence))
        });
    }

    /// Reads the number of a device's last event from a node. No proof is needed: with a wrong
    /// number the ledger refuses the next event.
    pub fn fetch_event_number(&mut self, device: Id) {
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let result = client.device_events(&device, None).await;
            if let Err(error) = &result {
                let error = error_chain(error);
                tracing::warn!(%device, error, "the device's last event is not known");
            }
            let highest = result.ok().map(|read| read.value.cursor.highest);
            TaskResult::EventNumberFetched { device, highest }
        });
    }

    /// Asks the nodes for the validators that follow those that are trusted, unless that is being
    /// done or was done just now: whatever a node sends can cause it.
    pub fn follow_validators(&mut self, now: Instant) {
        let is_recent = |at: Instant| now.duration_since(at) < FOLLOW_EVERY;
        if self.following || self.followed_at.is_some_and(is_recent) {
            return;
        }
        (self.following, self.followed_at) = (true, Some(now));
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let before = client.trusted().map(|trusted| trusted.height);
            let newer = match client.follow_validators().await {
                Ok(reached) => before.is_ok_and(|before| before < reached.height),
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::warn!(error, "the validators in force are not known");
                    false
                }
            };
            TaskResult::ValidatorsFollowed { newer }
        });
    }

    /// Fetches the changes of the validators since a height, for a Thing, which checks them itself.
    /// However often the Thing asks, that is done once at a time.
    pub fn fetch_changes(&mut self, device: Id, trusted: u64) {
        if !self.leading.insert(device.clone()) {
            return;
        }
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let path = format!("/v1/proofs/validators?trusted={trusted}");
            let result = client.get::<SetPath>(&path).await;
            if let Err(error) = &result {
                let error = error_chain(error);
                tracing::warn!(%device, error, "the changes of the validators can't be had");
            }
            let changes = result.ok().map(|read| order::encode_changes(read.value));
            TaskResult::ChangesFetched { device, changes }
        });
    }

    /// Allows the changes to be fetched again for the Thing of a device.
    pub fn changes_fetched(&mut self, device: &Id) {
        self.leading.remove(device);
    }

    /// Allows the validators to be asked for again.
    pub fn validators_followed(&mut self) {
        self.following = false;
    }

    /// Verifies the proofs of a message of work; records older than `age_max` at `now_ms` are
    /// refused.
    pub fn verify_work(
        &mut self,
        message: WorkMessage,
        anchor: Arc<TrustAnchor>,
        now_ms: u64,
        age_max: Duration,
    ) {
        self.tasks.spawn_blocking(move || {
            let state = ProvenState::prove(&message, &anchor, now_ms, age_max);
            TaskResult::WorkVerified(Box::new(state.map(|state| (message, state))))
        });
    }
}

/// Fetches a proof, again after a pause while the node does not have it.
pub(super) async fn retry_proof<T, F>(fetch: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut backoff = Backoff::new(PROOF_PAUSE_MIN, PROOF_PAUSE_MAX);
    let mut result = fetch().await;
    for _ in 0..PROOF_RETRIES {
        if !result.as_ref().is_err_and(ClientError::is_not_found) {
            break;
        }
        tokio::time::sleep(backoff.next_pause()).await;
        result = fetch().await;
    }
    result
}
